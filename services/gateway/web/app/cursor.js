// cursor.js: cursors of the event log, "epoch-number". Numbers of one epoch are in the order of what happened.

/** @param {string} cursor */
function parse(cursor) {
  const at = cursor.lastIndexOf("-");
  return { epoch: cursor.slice(0, at), number: Number(cursor.slice(at + 1)) };
}

/**
 * Below 0 when left is earlier, 0 when they are the same, above 0 when it is later; NaN for cursors of two epochs, which
 * tell nothing about each other.
 * @param {string} left
 * @param {string} right
 */
export function compareCursors(left, right) {
  const [one, other] = [parse(left), parse(right)];
  return one.epoch === other.epoch ? one.number - other.number : NaN;
}

/**
 * What to do with a message that moves the cursor from `after` to `cursor`, for somebody who has seen all up to
 * `position`: "old" (seen), "next" (apply it), "hole" (something in between was missed: reload).
 * @param {string} position
 * @param {string} after
 * @param {string} cursor
 * @returns {"old"|"next"|"hole"}
 */
export function place(position, after, cursor) {
  const isSeen = compareCursors(cursor, position) <= 0;
  if (isSeen) return "old";
  return compareCursors(after, position) <= 0 ? "next" : "hole";
}
