import { FakeBackend } from './backend.js';
import { behaviour } from './behaviour.js';

behaviour('the server in memory', async () => new FakeBackend());
