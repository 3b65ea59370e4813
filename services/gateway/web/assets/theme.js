// theme.js: the reader's choice of light or dark, before anything is painted. Without a choice the system decides.
{
  let choice = null;
  try {
    choice = localStorage.getItem("bore-theme");
  } catch {
    // storage is closed to us: the system decides
  }
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
}
