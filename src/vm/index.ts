export { attachConsole } from './attach.js';
export { cacheFolder } from './cache.js';
export { ownFunction } from './function.js';
export { bootGuest, type CommandOptions, Guest, type Outcome, runInGuest } from './guest.js';
export { tools } from './packages.js';
export { type GuestOptions, type Prepared, prepareGuest } from './prepare.js';
export { installedQemu, namedQemu } from './qemu.js';
