import { drainEventfd } from '../../native/eventfd.js';
import { Errno, Poll, Poller } from '../../native/socket.js';
import { Life } from '../life.js';
import { WatchState } from './state.js';

/** A descriptor whose event means that the other side is gone. */
export interface LostWhen {
  readonly fd: number;
  /** `hang-up`: the other end of a connection went away; `input`: there is something to read (an eventfd that tells of a removal). */
  readonly on: 'hang-up' | 'input';
  /** What it means, for the error: `the server closed the connection`. */
  readonly reason: string;
}

/** What a watcher is started with. */
export interface WatchData<T = unknown> {
  readonly buffer: SharedArrayBuffer;
  /** An eventfd for each vector. */
  readonly fds: readonly number[];
  /** The eventfd that makes it look up: to end, or because {@link own} changed. */
  readonly wake: number;
  readonly lost: readonly LostWhen[];
  /** For what a bus adds to its watcher. */
  readonly own: T;
}

/** What a bus adds to its watcher: one more descriptor that is served on its thread. */
export interface Served {
  readonly fd: number;
  /** Events of {@link Poll} that the next wait is for; 0 = none. Asked before each. */
  wanted(): number;
  /** Some of them have happened. @throws an Error when nothing can come any more */
  serve(found: number): void;
}

/**
 * Looks up by itself so often: the wake-up cannot be counted on when somebody terminates the thread, which takes effect only outside of
 * system calls.
 */
const LOOK_MS = 1000;

const GONE = Poll.HANGUP | Poll.ERROR | Poll.PEER_CLOSED;

/** Blocks in `poll` until it is over: what happens on the descriptors becomes words that the user's threads wait for. */
export function runWatch({ buffer, fds, wake, lost }: WatchData, served?: Served): void {
  const state = new WatchState(fds.length, buffer);
  const poller = new Poller(1 + fds.length + lost.length + 1);
  poller.set([wake, Poll.IN], ...fds.map((fd) => [fd, Poll.IN] as const));
  const firstLost = 1 + fds.length;
  for (const [i, { fd, on }] of lost.entries()) poller.change(firstLost + i, fd, on === 'input' ? Poll.IN : Poll.PEER_CLOSED);
  const last = firstLost + lost.length;
  try {
    while (state.life < Life.LOST) {
      if (served) {
        const wanted = served.wanted();
        poller.change(last, wanted === 0 ? -1 : served.fd, wanted);
      }
      const ready = poller.wait(LOOK_MS);
      if (ready < 0 && ready !== -Errno.EINTR) throw new Error(`poll failed with errno ${-ready}`);
      if (ready <= 0) continue;
      if (poller.found(0) !== 0) drainEventfd(wake);
      for (let v = 0; v < fds.length; v++) {
        if (poller.found(1 + v) === 0) continue;
        const times = drainEventfd(fds[v]);
        if (times > 0) state.interrupts.raise(v, times);
      }
      // After the interrupts: what was announced before the end is delivered.
      if (served && poller.found(last) !== 0) served.serve(poller.found(last));
      for (let i = 0; i < lost.length; i++) {
        const found = poller.found(firstLost + i);
        if ((found & (lost[i].on === 'input' ? Poll.IN | GONE : GONE)) !== 0) state.fail(lost[i].reason);
      }
    }
  } catch (error) {
    state.fail(error instanceof Error ? error.message : String(error));
  }
}
