// sse.js: reads an event stream (WHATWG HTML §9.2.6) by fetch. Unlike EventSource it sees the status of a refusal, comments
// (so that silence is noticed), and blocks that only move the cursor.

/** @typedef {import("./types.js").Block} Block */

/** Turns text as it arrives into blocks. */
export class BlockParser {
  #rest = "";
  /** @type {Block} */
  #block = { id: null, name: "", data: null };

  /**
   * @param {string} text
   * @returns {Block[]} blocks that this text completed
   */
  feed(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    return lines.map((line) => this.#take(line)).filter((block) => block !== null);
  }

  /** @param {string} line */
  #take(line) {
    if (line === "") return this.#complete();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "id" && !value.includes("\0")) this.#block.id = value;
    else if (field === "event") this.#block.name = value;
    else if (field === "data") this.#block.data = this.#block.data === null ? value : `${this.#block.data}\n${value}`;
    return null;
  }

  #complete() {
    const block = this.#block;
    this.#block = { id: null, name: "", data: null };
    return block.id === null && block.data === null ? null : block;
  }
}

/**
 * Follows a stream until it ends. Calls onOpen once it is open, onSign for whatever arrives, onBlock for each block.
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {{onOpen: () => void, onSign: () => void, onBlock: (block: Block) => void}} handlers
 * @returns {Promise<{status: number, retryAfter: number}>} 200 when it was open and ended, 0 when the server was not
 *   reached, otherwise the refusal; retryAfter in seconds, 0 when nothing was said
 */
export async function follow(path, signal, handlers) {
  try {
    const answer = await fetch(path, { headers: { accept: "text/event-stream" }, cache: "no-store", signal });
    if (!answer.ok || answer.body === null) {
      await answer.body?.cancel();
      return { status: answer.status, retryAfter: Number(answer.headers.get("retry-after")) || 0 };
    }
    handlers.onOpen();
    const parser = new BlockParser();
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      handlers.onSign();
      for (const block of parser.feed(decoder.decode(part.value, { stream: true }))) handlers.onBlock(block);
    }
    return { status: 200, retryAfter: 0 };
  } catch {
    return { status: 0, retryAfter: 0 };
  }
}
