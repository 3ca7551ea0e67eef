// In the browser: takes over the page that the server has made, and connects.
import { StrictMode } from 'react';
import { hydrateRoot } from 'react-dom/client';
import { App } from './App.jsx';
import { newChat } from './chat.js';

hydrateRoot(
  document.querySelector('#app'),
  <StrictMode>
    <App chat={newChat()} />
  </StrictMode>,
);
