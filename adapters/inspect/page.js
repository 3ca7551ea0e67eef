// The page of package inspect. What people wrote is only ever set as text.
const $ = (id) => document.getElementById(id);
const form = $('filter');
const [thead, tbody] = [$('list').tHead, $('list').tBodies[0]];
let next = '';
let mayBan = false;
let request = 0;

const element = (name, text = '', className = '') => {
  const e = document.createElement(name);
  e.textContent = text;
  if (className) e.className = className;
  return e;
};

const button = (text, title, act) => {
  const b = element('button', text);
  b.type = 'button';
  b.setAttribute('aria-label', title);
  b.title = title;
  b.onclick = act;
  return b;
};

async function call(path, options) {
  const response = await fetch(path, options);
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ?? `${response.status} ${response.statusText}`);
  return body;
}

const post = (path, body) => call(path, { method: 'POST', body: JSON.stringify(body) });

const say = (text) => {
  $('message').textContent = text;
};

const ago = (time) => {
  const s = (Date.now() - new Date(time)) / 1000;
  if (!(s < 1e9)) return '';
  if (s < 90) return `${Math.max(0, Math.round(s))} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
};

async function end(connection, ban) {
  const who = connection.user.name || connection.user.id;
  const reason = prompt(ban ? `Ban ${who}: for what reason?` : `Disconnect ${who}: for what reason?`, '');
  if (reason === null) return;
  const { tenant, user, id } = connection;
  try {
    if (ban) {
      const minutes = Number(prompt('For how many minutes?', '60'));
      if (!(minutes > 0)) return;
      await post('api/ban', { tenant, user: user.id, reason, minutes });
    } else {
      await post('api/disconnect', { tenant, client: id, user: user.id, reason });
    }
    say(`${who} is ${ban ? 'banned' : 'disconnected'}`);
    find();
  } catch (error) {
    say(`It failed: ${error.message}`);
  }
}

const show = (fields) => {
  for (const [name, value] of Object.entries(fields)) form.elements[name].value = value ?? '';
  find();
};

const KINDS = {
  connections: {
    heads: ['User', 'Tenant', 'Rooms', 'Address', 'Agent', 'Since', 'Heard', 'Outbox', 'Node', ''],
    row(c) {
      const actions = element('td', '', 'actions');
      actions.append(
        button('Follow', `Follow what ${c.user.id} gets`, () => follow({ tenant: c.tenant, user: c.user.id })),
        button('Disconnect', `Disconnect ${c.user.id}`, () => end(c, false)),
      );
      if (mayBan) actions.append(button('Ban', `Ban ${c.user.id}`, () => end(c, true)));
      const user = element('td');
      user.append(element('bdi', c.user.name || c.user.id), element('br'), element('small', `${c.user.id} · ${c.id}`));
      const rooms = element('td');
      for (const [i, room] of (c.rooms ?? []).slice(0, 5).entries()) {
        if (i > 0) rooms.append(', ');
        rooms.append(element('bdi', room));
      }
      if (c.rooms?.length > 5) rooms.append(` and ${c.rooms.length - 5} more`);
      return [
        user,
        element('td', c.tenant),
        rooms,
        element('td', c.address),
        element('td', c.agent),
        element('td', c.since ? ago(c.since) : '', 'number'),
        element('td', ago(c.heard), 'number'),
        element('td', c.outbox ? `${c.outbox} B` : '', 'number'),
        element('td', c.node.slice(-6)),
        actions,
      ];
    },
  },
  rooms: {
    heads: ['Room', 'Tenant', 'Users', 'Connections', ''],
    row(r) {
      const actions = element('td', '', 'actions');
      actions.append(
        button('Follow', `Follow what is sent to ${r.name}`, () => follow({ tenant: r.tenant, room: r.name })),
        button('Members', `Connections in ${r.name}`, () => show({ kind: 'connections', search: '', user: '', room: r.name, tenant: r.tenant })),
      );
      const name = element('td');
      name.append(element('bdi', r.name));
      return [name, element('td', r.tenant), element('td', r.users, 'number'), element('td', r.connections, 'number'), actions];
    },
  },
};

async function find(after = '') {
  const mine = ++request;
  const fields = Object.fromEntries(new FormData(form));
  const kind = KINDS[fields.kind];
  const query = new URLSearchParams({ ...fields, after });
  try {
    const answer = await call(`api/${fields.kind}?${query}`);
    if (mine !== request) return; // another one was faster
    if (!after) {
      const head = element('tr');
      for (const h of kind.heads) {
        const th = element('th', h);
        th.scope = 'col';
        head.append(th);
      }
      thead.replaceChildren(head);
      tbody.replaceChildren();
    }
    for (const item of answer[fields.kind] ?? []) {
      const tr = element('tr');
      tr.append(...kind.row(item));
      tbody.append(tr);
    }
    next = answer.next;
    $('more').hidden = !next;
    const count = tbody.rows.length;
    say(`${count}${next ? ' of more' : ''} ${fields.kind}${answer.incomplete ? '. Some nodes did not answer.' : ''}`);
  } catch (error) {
    if (mine === request) say(`It failed: ${error.message}`);
  }
}

let tail;

function follow({ tenant = '', user = '', room = '' }) {
  tail?.close();
  $('tail').hidden = false;
  $('tail-name').textContent = `${room || user}${tenant ? ` (${tenant})` : ''}`;
  const list = $('tail-events');
  list.replaceChildren();
  const add = (text, className) => {
    list.prepend(element('li', text, className));
    while (list.children.length > 500) list.lastChild.remove();
  };
  tail = new EventSource(`api/tail?${new URLSearchParams({ tenant, user, room })}`);
  tail.onmessage = ({ data }) => {
    const e = JSON.parse(data);
    if (e.gap) add('some events are missing', 'gap');
    const place = e.seq ? ` #${e.seq}` : '';
    const text = e.data === undefined ? '' : ` ${JSON.stringify(e.data).slice(0, 1000)}`;
    add(`${new Date(e.time).toLocaleTimeString()} ${e.type}${place} ${e.from ? e.from.name || e.from.id : ''}${text}`);
  };
  tail.addEventListener('end', ({ data }) => {
    add(JSON.parse(data), 'gap');
    tail.close();
  });
}

$('tail-end').onclick = () => {
  tail?.close();
  $('tail').hidden = true;
};
$('more').onclick = () => find(next);
form.onsubmit = (event) => {
  event.preventDefault();
  find();
};
for (const radio of form.elements.kind) radio.onchange = () => find();
let typing;
form.elements.search.oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(find, 300, '');
};

const FIGURES = {
  connections: 'Connections', users: 'Users', rooms: 'Rooms', queueLength: 'Queue',
  received: 'Received', delivered: 'Delivered', dropped: 'Dropped', slowConsumers: 'Slow', refused: 'Refused',
};

async function figures() {
  try {
    const { stats, ban } = await call('api/stats');
    mayBan = ban;
    const list = Object.entries(FIGURES).map(([key, name]) => {
      const div = element('div');
      div.append(element('dt', name), element('dd', (stats[key] ?? 0).toLocaleString()));
      return div;
    });
    $('stats').replaceChildren(...list);
  } catch (error) {
    say(`This hub does not answer: ${error.message}`);
  }
  setTimeout(figures, 2000);
}

await figures();
find();
