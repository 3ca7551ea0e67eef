// Without a framework.
import { storesOf } from 'chathub-client/store';
import { newChat, text, title } from './chat.js';

const chat = newChat();
const lobby = storesOf(chat).room('lobby');

const list = document.createElement('ul');
const say = document.createElement('button');
say.textContent = 'Say hello';
say.onclick = () => lobby.actions.send('Hello');
document.querySelector('#app').append(list, say);

// Keeps the line of each message, and makes only those that have changed.
const lines = new Map(); // by key: the message and its element
function show() {
  const { messages, unread } = lobby.snapshot;
  document.title = title(unread);
  const elements = messages.map((m) => {
    const line = lines.get(m.key) ?? { element: document.createElement('li') };
    if (line.message !== m) line.element.textContent = text(m);
    lines.set(m.key, Object.assign(line, { message: m }));
    return line.element;
  });
  list.replaceChildren(...elements);
}

lobby.subscribe(show); // joins the room
chat.connect();
