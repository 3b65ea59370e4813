// parts.js: what several pages are made of.
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { Problem, sentence } from "./api.js";
import { now } from "./clock.js";
import { ago, dateTime, duration } from "./format.js";
import { Icon } from "./icons.js";
import { describe } from "./status.js";
import { gradient, shares, totals } from "./strip.js";
import { html } from "./view.js";

/** @typedef {import("preact").ComponentChildren} Children */

// --- saying something --------------------------------------------------------------------------------------------

const TOAST_MS = 5000;
const toast = signal({ text: "", kind: "good", number: 0 });
/** What a screen reader says of changes that are seen elsewhere on the page. */
export const spoken = signal("");

/**
 * A short message at the edge of the page.
 * @param {string} text
 * @param {"good"|"bad"} [kind]
 */
export function say(text, kind = "good") {
  toast.value = { text, kind, number: toast.peek().number + 1 };
}

export function Messages() {
  const { text, kind, number } = toast.value;
  useEffect(() => {
    const timer = setTimeout(() => {
      if (toast.peek().number === number) toast.value = { text: "", kind: "good", number };
    }, TOAST_MS);
    return () => clearTimeout(timer);
  }, [number]);
  return html`<div class="toasts">
    <div role="status">${kind === "good" && text && html`<p class="toast" key=${number}>${text}</p>`}</div>
    <div role="alert">${kind === "bad" && text && html`<p class="toast bad" key=${number}>${text}</p>`}</div>
    <p class="unseen" aria-live="polite">${spoken.value}</p>
  </div>`;
}

/** A problem that stays on the page, with a way to try again. @param {{problem: unknown, what: string, retry?: () => void}} properties */
export function Trouble({ problem, what, retry }) {
  return html`<div class="trouble" role="alert">
    <${Icon} name="warning" />
    <p><strong>${what} could not be loaded.</strong> ${sentence(problem)}</p>
    ${retry && html`<button type="button" class="small" onClick=${retry}>Try again</button>`}
  </div>`;
}

// --- moments -----------------------------------------------------------------------------------------------------

/** "3 min ago", ticking. @param {{at: number|string|null, none?: string}} properties at: the server's time */
export function Ago({ at, none = "never" }) {
  if (at === null) return html`<span>${none}</span>`;
  const time = typeof at === "string" ? Date.parse(at) : at;
  return html`<time dateTime=${new Date(time).toISOString()} title=${dateTime(time)}>${ago(now.value - time)}</time>`;
}

/** "for 3 min", ticking. @param {{at: string|null}} properties */
export function Since({ at }) {
  if (at === null) return null;
  return html`<time dateTime=${at} title=${`since ${dateTime(at)}`}>for ${duration(now.value - Date.parse(at))}</time>`;
}

// --- status ------------------------------------------------------------------------------------------------------

/** Colour, icon and word. @param {{status: string, large?: boolean}} properties */
export function StatusBadge({ status, large = false }) {
  const { word, meaning, icon } = describe(status);
  return html`<span class=${`badge ${large ? "large" : ""}`} data-status=${status} title=${meaning}><${Icon} name=${icon} />${word}</span>`;
}

const STRIP_STEP_MS = 60000;

/**
 * A strip of the last hours.
 * @param {{stretches: import("./types.js").Stretch[], hours: number, names?: Record<string, string>}} properties names:
 *   other words for the statuses
 */
export function Strip({ stretches, hours, names = {} }) {
  const step = hours < 6 ? 1000 : STRIP_STEP_MS;
  const to = Math.ceil(now.value / step) * step;
  const parts = shares(stretches, to - hours * 3600000, to);
  const words = totals(parts).map(
    ({ status, share }) =>
      `${names[status] ?? describe(status).word.toLowerCase()} ${duration(share * hours * 3600000)}`
  );
  const text = `Last ${duration(hours * 3600000)}: ${words.join(", ") || "nothing known"}`;
  return html`<span class="strip" role="img" aria-label=${text} title=${text}><span style=${{ backgroundImage: gradient(parts) }} /></span>`;
}

// --- buttons -----------------------------------------------------------------------------------------------------

/** Puts text on the clipboard; outside secure contexts browsers offer only the old way. @param {string} text */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  if (!isDone) throw new Error("The browser does not let pages copy. Select the text by hand.");
  return undefined;
}

/** @param {{text: string, label: string, children?: Children}} properties label: what is copied */
export function CopyButton({ text, label, children }) {
  const [isCopied, setCopied] = useState(false);
  const onClick = async () => {
    try {
      await copy(text);
      setCopied(true);
      say(`${label} copied.`);
      setTimeout(() => setCopied(false), 2000);
    } catch (error) {
      say(sentence(error), "bad");
    }
  };
  return html`<button type="button" class=${children ? "" : "icon-only"} aria-label=${children ? undefined : `Copy ${label}`}
    title=${children ? undefined : `Copy ${label}`} onClick=${onClick}>
    <${Icon} name=${isCopied ? "check" : "copy"} />${children && html`<span aria-live="polite">${isCopied ? "Copied" : children}</span>`}
  </button>`;
}

/** @param {{icon: string, label: string, onClick: () => void, danger?: boolean}} properties */
export function IconButton({ icon, label, onClick, danger = false }) {
  return html`<button type="button" class=${`icon-only ${danger ? "danger" : ""}`} aria-label=${label} title=${label} onClick=${onClick}>
    <${Icon} name=${icon} />
  </button>`;
}

// --- dialogs -----------------------------------------------------------------------------------------------------

/**
 * A modal dialog, open as long as it is on the page. The browser keeps the focus inside, Escape closes it, and the focus
 * goes back to where it was.
 * @param {{title: string, onClose: () => void, children: Children}} properties
 */
export function Dialog({ title, onClose, children }) {
  const element = useRef(/** @type {HTMLDialogElement|null} */ (null));
  useEffect(() => {
    const before = document.activeElement;
    element.current?.showModal();
    return () => {
      // What opened it may be gone, with a deleted instance: then the page itself is next.
      const next = before instanceof HTMLElement && before.isConnected ? before : document.querySelector("main");
      next?.focus({ preventScroll: true });
    };
  }, []);
  /** @param {MouseEvent} event */
  const onClick = (event) => {
    if (event.target === element.current) onClose();
  };
  return html`<dialog ref=${element} aria-labelledby="dialog-title" onClose=${onClose} onMouseDown=${onClick}>
    <div class="dialog">
      <header><h2 id="dialog-title">${title}</h2><${IconButton} icon="close" label="Close" onClick=${onClose} /></header>
      ${children}
    </div>
  </dialog>`;
}

/**
 * Asks before something that cannot be undone.
 * @param {{title: string, action: string, act: () => Promise<unknown>, onClose: () => void, danger?: boolean, children: Children}} properties
 */
export function Confirm({ title, action, act, onClose, danger = true, children }) {
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <${Form} act=${act} done=${onClose} action=${action} danger=${danger} cancel=${onClose}>${children}<//>
  <//>`;
}

// --- forms -------------------------------------------------------------------------------------------------------

/**
 * @typedef {object} FieldProperties
 * @property {string} name
 * @property {string} label
 * @property {string} [type]
 * @property {string} [hint]
 * @property {string} [value] the first value
 * @property {Record<string, string>} [problems] by field name
 */

/** A labelled input; what is wrong with it stands below it. @param {FieldProperties & Record<string, unknown>} properties */
export function Field({ name, label, type = "text", hint, value = "", problems = {}, ...rest }) {
  const [isShown, setShown] = useState(false);
  const input = useRef(/** @type {HTMLInputElement|null} */ (null));
  const problem = problems[name];
  useEffect(() => {
    if (problem && Object.keys(problems)[0] === name) input.current?.focus();
  }, [problems]);
  const isPassword = type === "password";
  const described = [problem && `${name}-problem`, hint && `${name}-hint`].filter(Boolean).join(" ");
  return html`<div class=${`field ${problem ? "wrong" : ""}`}>
    <label for=${name}>${label}</label>
    <div class="input">
      <input ref=${input} id=${name} name=${name} type=${isPassword && isShown ? "text" : type} defaultValue=${value}
        aria-invalid=${problem ? "true" : undefined} aria-describedby=${described || undefined} ...${rest} />
      ${
        isPassword &&
        html`<button type="button" class="quiet" aria-pressed=${isShown} onClick=${() => setShown(!isShown)}
        aria-label=${`${isShown ? "Hide" : "Show"} ${label.toLowerCase()}`}>${isShown ? "Hide" : "Show"}</button>`
      }
    </div>
    ${problem && html`<p class="problem" id=${`${name}-problem`}>${problem}</p>`}
    ${hint && html`<p class="hint" id=${`${name}-hint`}>${hint}</p>`}
  </div>`;
}

/** Counts down to zero. @param {number} until ms; 0 for nothing @returns {number} seconds left */
function useCountdown(until) {
  const [time, setTime] = useState(Date.now());
  useEffect(() => {
    if (until <= Date.now()) return undefined;
    const timer = setInterval(() => setTime(Date.now()), 250);
    return () => clearInterval(timer);
  }, [until, until > time]);
  return Math.max(0, Math.ceil((until - Math.max(time, Date.now())) / 1000));
}

/**
 * A form with one action. `act` gets the fields' values; a Problem it rejects with is shown beside the fields it concerns,
 * or above the button; "too many requests" counts down.
 * @param {{act: (values: Record<string, string>) => Promise<unknown>, done?: () => void, action: string, danger?: boolean,
 *   cancel?: () => void, place?: (problem: Problem) => Record<string, string>, children: any}} properties place: which field
 *   a problem without fields belongs to; children may be a function of the fields' problems
 */
export function Form({ act, done, action, danger = false, cancel, place, children }) {
  const [isBusy, setBusy] = useState(false);
  const [general, setGeneral] = useState("");
  const [problems, setProblems] = useState(/** @type {Record<string, string>} */ ({}));
  const [until, setUntil] = useState(0);
  const left = useCountdown(until);
  /** @param {unknown} error */
  const show = (error) => {
    const problem = error instanceof Problem ? error : null;
    const fields = problem ? { ...problem.fields, ...place?.(problem) } : {};
    setProblems(fields);
    setGeneral(Object.keys(fields).length === 0 ? sentence(error) : "");
    if (problem?.status === 429) setUntil(Date.now() + Math.max(1, problem.retryAfter) * 1000);
  };
  /** @param {SubmitEvent} event */
  const onSubmit = async (event) => {
    event.preventDefault();
    if (isBusy || left > 0) return;
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    const values = Object.fromEntries([...new FormData(form)].map(([key, value]) => [key, String(value)]));
    setBusy(true);
    try {
      await act(values);
      setGeneral("");
      setProblems({});
      done?.();
    } catch (error) {
      show(error);
    }
    setBusy(false);
  };
  return html`<form onSubmit=${onSubmit} noValidate>
    ${typeof children === "function" ? children(problems) : children}
    <div role="alert" class="form-alert">
      ${general && html`<p class="problem">${general}</p>`}
    </div>
    ${left > 0 && html`<p class="hint" role="timer">Too many attempts. You can try again in ${left} s.</p>`}
    <div class="actions">
      ${cancel && html`<button type="button" onClick=${cancel}>Cancel</button>`}
      <button type="submit" class=${danger ? "primary danger" : "primary"} aria-disabled=${isBusy || left > 0}>
        ${isBusy ? "One moment…" : left > 0 ? `Wait ${left} s` : action}
      </button>
    </div>
  </form>`;
}
