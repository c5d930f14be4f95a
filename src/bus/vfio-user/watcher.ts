/** Entry of the thread that watches a connection's event counters, and answers the server's accesses while its user does something else. */
import { workerData } from 'node:worker_threads';
import { BusLostError } from '../../errors.js';
import { Poll } from '../../native/socket.js';
import { runWatch, type Served, type WatchData } from '../watch/loop.js';
import { Link } from './link.js';
import { SharedLink } from './shared.js';

/** What the thread is told besides. */
export interface LinkData {
  readonly socket: number;
  readonly link: SharedArrayBuffer;
  readonly timeoutMs: number;
}

/** How long the thread waits for the socket: its user has it for the length of a request. */
const LOCK_MS = 5;
/** How long it keeps the socket, if the server has that much to ask. */
const TURN_MS = 5;

const data = workerData as WatchData<LinkData>;
const { socket, link: buffer, timeoutMs } = data.own;
const shared = new SharedLink(buffer);
const link = new Link(socket, shared, (reason) => new BusLostError(reason));

const served: Served = {
  fd: socket,
  // Replies are for whoever has asked: without such memory there is nothing here to read.
  wanted: () => (shared.grants > 0 ? Poll.IN : 0),
  serve: () => {
    if (!shared.acquire(LOCK_MS)) return;
    let more = false;
    try {
      more = link.attend(TURN_MS, timeoutMs);
    } finally {
      // A server that asks and asks does not keep the user out.
      more ? shared.handOver() : shared.release();
    }
  },
};

runWatch(data, served);
