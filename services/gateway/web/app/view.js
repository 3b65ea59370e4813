// view.js: templates. html`<p class="x">${text}</p>` makes elements; values are always text, never markup.
import { h } from "preact";
import htm from "htm";

export const html = htm.bind(h);
