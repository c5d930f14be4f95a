export { Connection, Received } from './connection.js';
export * from './messages.js';
