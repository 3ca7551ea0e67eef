import { RealBackend } from './backend.js';
import { behaviour } from './behaviour.js';

behaviour('the real server', () => RealBackend.start());
