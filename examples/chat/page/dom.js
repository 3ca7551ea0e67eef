// Small helpers for building the page. Text is only ever set as text.

export const $ = (id) => document.getElementById(id);

/** An element with properties set, attributes for names with a dash, and children. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in node && !name.includes('-')) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

/** A name that cannot change the direction of what is around it. */
export const name = (text, className = '') => el('bdi', { className, textContent: text });

/** Initials on a colour that follows from the id. presence: 'on', 'off' or none. */
export function avatar(id, text, presence) {
  const node = colored(el('span', { className: 'avatar', 'aria-hidden': 'true' }, initials(text)), id);
  if (presence) node.append(el('span', { className: `presence ${presence}` }));
  return node;
}

/** Gives a node the colour of a user. */
export function colored(node, id) {
  node.style.setProperty('--hue', hue(id));
  return node;
}

export const roomAvatar = () => el('span', { className: 'avatar room', 'aria-hidden': 'true' }, '#');

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

function initials(text) {
  const words = text.trim().split(/\s+/);
  const picked = words.length > 1 ? [words[0], words.at(-1)] : [words[0]];
  return picked.map((w) => [...graphemes.segment(w)][0]?.segment ?? '').join('').toUpperCase();
}

// FNV-1a, then spread by the golden angle, so that near ids are far apart.
function hue(id) {
  let h = 0x811c9dc5;
  for (const ch of id) h = Math.imul(h ^ ch.codePointAt(0), 0x01000193);
  return Math.round((h >>> 0) * 137.508) % 360;
}

/**
 * Makes the children of parent the given nodes, in order, and moves none that
 * is in its place already: focus, selection and animations stay.
 */
export function setChildren(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.childNodes]) if (!wanted.has(child)) child.remove();
  let at = parent.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
}

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const weekdayFormat = new Intl.DateTimeFormat('en', { weekday: 'long' });
const dayFormat = new Intl.DateTimeFormat('en', { weekday: 'long', day: 'numeric', month: 'long' });
const oldDayFormat = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'long', year: 'numeric' });

export const timeOf = (ts) => timeFormat.format(ts);
export const fullTimeOf = (ts) => fullFormat.format(ts);
export const dayKey = (ts) => new Date(ts).toDateString();

/** "Today", "Yesterday", "Monday", "Monday, 3 March", "3 March 2025". */
export function dayOf(ts) {
  const midnight = (t) => new Date(t).setHours(0, 0, 0, 0);
  const days = Math.round((midnight(Date.now()) - midnight(ts)) / 86_400_000);
  if (days <= 0) return 'Today';
  if (days === 1) return 'Yesterday';
  if (days < 7) return weekdayFormat.format(ts);
  return (days < 300 ? dayFormat : oldDayFormat).format(ts);
}

const link = /https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}]/g;

/** Text with its web addresses as links, as nodes. */
export function linked(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(link)) {
    nodes.push(text.slice(end, match.index));
    nodes.push(el('a', { href: match[0], target: '_blank', rel: 'noopener noreferrer nofollow', textContent: match[0] }));
    end = match.index + match[0].length;
  }
  nodes.push(text.slice(end));
  return nodes;
}
