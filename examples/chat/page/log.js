// The list of messages: days, groups of one sender, and where it is scrolled to.

import { $, avatar, colored, dayKey, dayOf, el, fullTimeOf, icon, linked, name, setChildren, timeOf } from './dom.js';

const GROUP = 5 * 60_000; // messages of one sender this close together are a group
const NEAR = 60; // pixels from the end that count as being there

export class Log {
  #log = $('log');
  #rows = new WeakMap(); // message -> {row, made}: made is the state it was made from
  #days = new Map(); // day -> separator
  #divider = el('div', { className: 'divider', role: 'separator' }, el('span', { textContent: 'New' }));
  #earlier = el('button', { className: 'earlier', type: 'button' });
  #conversation = null;
  #last = null; // the newest message shown
  #missed = 0; // messages that came while scrolled up
  #atEnd = true;
  #on;

  /** on: earlier(), retry(message), discard(message), atEnd(). */
  constructor(on) {
    this.#on = on;
    this.#earlier.onclick = () => on.earlier();
    this.#log.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    $('jump').onclick = () => {
      this.#toEnd('smooth');
      this.#log.focus({ preventScroll: true });
    };
    // The keyboard of a phone, or a composer with more lines: who was at the
    // end stays there.
    new ResizeObserver(() => this.#atEnd && this.#toEnd()).observe(this.#log);
  }

  get atEnd() {
    return this.#atEnd;
  }

  /** Shows a conversation. intro: what to show where it has no messages, as nodes. */
  render(c, intro) {
    const other = c !== this.#conversation;
    const anchor = other ? null : this.#anchor();
    // Neither another conversation nor older messages are news to be read out.
    this.#quiet(other || c.messages.at(-1) === this.#last);

    setChildren(this.#log, c.messages.length ? this.#nodes(c) : [el('div', { className: 'empty' }, ...intro)]);

    const last = c.messages.at(-1);
    if (other) {
      this.#missed = 0;
      if (this.#divider.isConnected) this.#log.scrollTop = this.#divider.offsetTop - this.#log.clientHeight / 4;
      else this.#toEnd();
    } else if (this.#atEnd || (last !== this.#last && last?.status === 'pending')) {
      this.#toEnd();
    } else {
      if (anchor) this.#log.scrollTop = anchor.row.offsetTop - anchor.offset;
      if (last !== this.#last && last?.from && !last.mine) this.#missed++;
    }
    this.#conversation = c;
    this.#last = last;
    this.#scrolled();
  }

  #toEnd(behavior = 'instant') {
    this.#log.scrollTo({ top: this.#log.scrollHeight, behavior });
  }

  // The first message in sight, and how far below the edge it is. Days and
  // the like may move when older messages come.
  #anchor() {
    const top = this.#log.scrollTop;
    const row = [...this.#log.querySelectorAll('.row')].find((r) => r.offsetTop + r.offsetHeight > top);
    return row && { row, offset: row.offsetTop - top };
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#log;
    this.#atEnd = scrollHeight - clientHeight - scrollTop < NEAR;
    if (this.#atEnd) {
      this.#missed = 0;
      this.#on.atEnd();
    }
    $('jump').hidden = this.#atEnd;
    $('jump-text').textContent = this.#missed ? `${this.#missed} new` : 'Latest';
  }

  #quiet(quiet) {
    this.#log.setAttribute('aria-live', quiet ? 'off' : 'polite');
  }

  #nodes(c) {
    const nodes = [];
    if (c.more) {
      this.#earlier.textContent = c.loading ? 'Loading…' : 'Show earlier messages';
      this.#earlier.disabled = c.loading;
      nodes.push(this.#earlier);
    }
    let previous = null;
    let divided = false;
    const days = new Map();
    for (const [i, m] of c.messages.entries()) {
      const day = dayKey(m.ts);
      let broken = false; // whether something stands between this one and the one before
      if (!previous || dayKey(previous.ts) !== day) {
        nodes.push(this.#day(day, m.ts, days));
        broken = true;
      }
      if (!divided && m.from && !m.mine && m.ts >= c.newFrom) {
        nodes.push(this.#divider);
        divided = broken = true;
      }
      const next = c.messages[i + 1];
      const first = broken || !together(previous, m);
      const end = !together(m, next) || dayKey(next.ts) !== day || (!divided && !next.mine && next.ts >= c.newFrom);
      nodes.push(m.note ? this.#note(m) : this.#row(c, m, first, end));
      previous = m;
    }
    this.#days = days;
    return nodes;
  }

  // Messages of one day may stand apart where a clock went back.
  #day(day, ts, days) {
    const key = days.has(day) ? `${day} ${ts}` : day;
    const node = this.#days.get(key) ?? el('div', { className: 'day' }, el('span'));
    node.firstChild.textContent = dayOf(ts);
    days.set(key, node);
    return node;
  }

  #note(m) {
    const known = this.#rows.get(m);
    if (known) return known.row;
    const row = el('p', { className: 'note', textContent: m.note, title: fullTimeOf(m.ts) });
    this.#rows.set(m, { row });
    return row;
  }

  #row(c, m, first, end) {
    const made = `${m.status} ${m.ts}`;
    let known = this.#rows.get(m);
    if (known?.made !== made) {
      const content = this.#content(c, m);
      // The row stays the same element, so that it is not read out twice.
      const row = known?.row ?? el('div');
      row.replaceChildren(...content);
      known = { row, made };
      this.#rows.set(m, known);
    }
    known.row.className = ['row', m.mine && 'mine', first && 'first', end && 'end', m.status].filter(Boolean).join(' ');
    return known.row;
  }

  #content(c, m) {
    const time = el('time', { dateTime: new Date(m.ts).toISOString(), title: fullTimeOf(m.ts), textContent: timeOf(m.ts) });
    const meta = el('span', { className: 'meta' }, time);
    if (m.mine) meta.append(state(m.status));
    const text = el('span', { className: 'text', dir: 'auto' }, ...linked(m.text));
    const stack = el('div', { className: 'stack' }, el('div', { className: 'bubble' }, text, meta));
    if (m.mine) {
      stack.prepend(el('span', { className: 'sr', textContent: 'You: ' }));
    } else if (c.kind === 'room') {
      stack.prepend(colored(name(m.from.name, 'who'), m.from.id));
    } else {
      stack.prepend(name(`${m.from.name}: `, 'sr'));
    }
    if (m.status === 'failed') stack.append(this.#failure(m));
    return m.mine || c.kind === 'user' ? [stack] : [avatar(m.from.id, m.from.name), stack];
  }

  #failure(m) {
    const retry = el('button', { type: 'button', textContent: 'Try again', onclick: () => this.#on.retry(m) });
    const discard = el('button', { type: 'button', textContent: 'Discard', onclick: () => this.#on.discard(m) });
    return el('p', { className: 'failure' }, icon('alert'), `Not sent: ${m.error}. `, retry, discard);
  }
}

const states = {
  pending: ['clock', 'Sending'],
  sent: ['check', 'Sent'],
  failed: ['alert', 'Not sent'],
};

function state(status) {
  const [picture, label] = states[status];
  return el('span', { className: 'state', title: label }, icon(picture), el('span', { className: 'sr', textContent: label }));
}

function together(a, b) {
  return Boolean(a?.from && b?.from && a.from.id === b.from.id && Math.abs(b.ts - a.ts) < GROUP);
}
