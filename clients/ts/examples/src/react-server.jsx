// On a server: nothing connects, and the page is that of an empty room.
import { renderToString } from 'react-dom/server';
import { App } from './App.jsx';
import { newChat } from './chat.js';

export const render = () => renderToString(<App chat={newChat()} />);
