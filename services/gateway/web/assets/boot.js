// boot.js: before anything is painted, the reader's choice of light or dark; without a choice the system decides. And when a
// file of the page does not arrive (the network changed, the server was just updated), another try instead of a blank page.
{
  const TRIES_MAX = 3;
  const TRIES_KEY = "bore-tries"; // main.js forgets it once the page has worked for a while

  const read = (storage, key) => {
    try {
      return storage().getItem(key);
    } catch {
      return null; // storage is closed to us
    }
  };

  const choice = read(() => localStorage, "bore-theme");
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;

  const giveUp = () => {
    const main = document.createElement("main");
    main.className = "entrance";
    const title = document.createElement("h1");
    title.textContent = "The page could not be loaded";
    const text = document.createElement("p");
    text.className = "lead";
    text.textContent = "Some of its files did not arrive.";
    const button = document.createElement("button");
    button.textContent = "Try again";
    button.addEventListener("click", () => location.reload());
    main.append(title, text, button);
    document.getElementById("app").replaceChildren(main);
  };

  const again = () => {
    const tries = Number(read(() => sessionStorage, TRIES_KEY));
    try {
      sessionStorage.setItem(TRIES_KEY, String(tries + 1));
    } catch {
      giveUp();
      return;
    }
    if (tries < TRIES_MAX) setTimeout(() => location.reload(), 300 * 2 ** tries);
    else giveUp();
  };

  const isNeeded = (element) => element instanceof HTMLScriptElement || (element instanceof HTMLLinkElement && element.rel === "stylesheet");
  addEventListener("error", (event) => {
    if (isNeeded(event.target)) again();
  }, true);
  addEventListener("bore-file-missing", again);
}
