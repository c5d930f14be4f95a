export { parseFunctionOptions } from '../function/config.js';
export { qemuArguments } from './qemu.js';
export { FUNCTIONS_MAX, type ServeOptions, Server, serve } from './server.js';
