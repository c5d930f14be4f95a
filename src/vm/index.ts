export { cacheFolder } from './cache.js';
export { bootGuest, Guest, type GuestOptions, type Outcome, prepareGuest } from './guest.js';
export { tools } from './packages.js';
