import { setTimeout as pauseFor } from 'node:timers/promises';
import type { BusLostError } from '../../errors.js';
import { Errno, Poll, Poller } from '../../native/socket.js';
import { Connection, Received } from '../../vfio-user/connection.js';
import { commandName, Flag } from '../../vfio-user/messages.js';
import { serveDma } from './dma.js';
import type { SharedLink } from './shared.js';

/** When something has to be over, and how much time it was given. */
interface Limit {
  readonly at: number;
  readonly ms: number;
}

/** What was there to receive. */
const Found = { NOTHING: 0, REQUEST: 1, REPLY: 2 } as const;
type Found = (typeof Found)[keyof typeof Found];

/** The first answer is looked for at least so often. */
const PAUSE_MAX_MS = 16;

/**
 * The user's end of a connection: requests that wait for their reply on the calling thread. What the server asks for meanwhile is answered.
 * The socket belongs to whoever holds the lock of {@link SharedLink}, from one message boundary to another.
 */
export class Link {
  readonly connection: Connection;
  readonly shared: SharedLink;
  private readonly poller = new Poller(1);
  private readonly lost: (reason: string) => BusLostError;
  private nextId = 1;
  /** Of {@link hold}. */
  private whole?: Limit;

  /** @param lost notes why nothing can come any more, and makes the error that says so */
  constructor(fd: number, shared: SharedLink, lost: (reason: string) => BusLostError) {
    this.connection = new Connection(fd);
    this.shared = shared;
    this.lost = (reason) => {
      shared.revokeAll();
      return lost(reason);
    };
  }

  /** Nothing that the server says can be relied on any more. */
  abandon(reason: string): BusLostError {
    return this.lost(reason);
  }

  /** Runs something with the socket held, all of whose requests together take no longer than that. @throws BusLostError */
  hold<T>(timeoutMs: number, action: () => T): T {
    if (!this.shared.acquire(timeoutMs)) throw this.lost(`the socket was kept for ${timeoutMs} ms`);
    try {
      this.whole = this.limit(timeoutMs);
      return action();
    } finally {
      this.whole = undefined;
      this.shared.release();
    }
  }

  private limit(ms: number): Limit {
    const at = performance.now() + ms;
    return this.whole !== undefined && this.whole.at < at ? this.whole : { at, ms };
  }

  /**
   * Sends a command whose body `fill` writes, and waits for the reply, which {@link connection} has then.
   * @returns 0, or the errno of the reply (EIO when it has none)
   * @throws BusLostError when there is no reply, or one to something else
   */
  request(command: number, bytes: number, fill: (connection: Connection) => void, timeoutMs: number, fds: readonly number[] = []): number {
    const limit = this.limit(timeoutMs);
    return this.answer(this.send(command, bytes, fill, Flag.COMMAND, limit, fds), command, limit);
  }

  /** The same for the first request, whose answer comes when the server has time for this client: the thread is free meanwhile. */
  async firstRequest(command: number, bytes: number, fill: (connection: Connection) => void, timeoutMs: number): Promise<number> {
    const limit = this.limit(timeoutMs);
    const id = this.send(command, bytes, fill, Flag.COMMAND, limit);
    this.poller.set([this.connection.fd, Poll.IN]);
    for (let pause = 1; this.poller.wait(0) === 0 && performance.now() < limit.at; pause = Math.min(2 * pause, PAUSE_MAX_MS)) {
      await pauseFor(pause);
    }
    return this.answer(id, command, limit);
  }

  /** Sends a command that is not answered; returns when the kernel has it. @throws BusLostError */
  post(command: number, bytes: number, fill: (connection: Connection) => void, timeoutMs: number): void {
    const limit = this.limit(timeoutMs);
    this.send(command, bytes, fill, Flag.COMMAND | Flag.NO_REPLY, limit);
    // A server that reads nothing may itself wait for an answer.
    if (this.connection.sending) this.settle(limit, commandName(command));
  }

  private send(
    command: number,
    bytes: number,
    fill: (connection: Connection) => void,
    flags: number,
    limit: Limit,
    fds: readonly number[] = [],
  ): number {
    const { connection } = this;
    const id = this.nextId;
    this.nextId = id === 0xffff ? 1 : id + 1;
    for (;;) {
      fill(connection);
      const sent = connection.send(id, command, bytes, flags, 0, fds);
      if (sent >= 0) return id;
      if (sent !== -Errno.EAGAIN) throw this.lost(gone(sent));
      // Descriptors do not wait in a queue: their message is made again once there is room for it.
      if (this.receive() === Found.REPLY) throw this.unasked();
      this.sleep(limit, commandName(command), Poll.OUT);
    }
  }

  private answer(id: number, command: number, limit: Limit): number {
    const { connection } = this;
    const name = commandName(command);
    for (let found = this.receive(); found !== Found.REPLY; found = this.receive()) {
      if (found === Found.NOTHING) this.sleep(limit, name);
      else this.check(limit, name);
    }
    if (connection.id !== id || connection.command !== command) {
      throw this.lost(`it answered ${commandName(connection.command)} (${connection.id}) when asked for ${name} (${id})`);
    }
    if ((connection.flags & Flag.ERROR) === 0) return 0;
    return connection.error === 0 ? Errno.EIO : connection.error;
  }

  /**
   * Answers what the server asks for while nobody waits for a reply of it; ends between two messages. For the watcher.
   * @returns true when there may be more: it has gone on for `turnMs`
   * @throws BusLostError, also for a reply that nobody waits for
   */
  attend(turnMs: number, timeoutMs: number): boolean {
    return this.settle(this.limit(timeoutMs), 'a message', turnMs);
  }

  /** Takes and answers what is there, until it has taken that long at least and nothing of a message is left over at either end. */
  private settle(limit: Limit, name: string, turnMs = 0): boolean {
    const { connection } = this;
    for (const until = performance.now() + turnMs; ; ) {
      const found = this.receive();
      if (found === Found.REPLY) throw this.unasked();
      if (!connection.partial && !connection.sending) {
        if (found === Found.NOTHING) return false;
        if (performance.now() >= until) return true;
      }
      if (found === Found.NOTHING) this.sleep(limit, name);
      else this.check(limit, name);
    }
  }

  /** Takes a message, if there is one, and answers it unless it is a reply. @throws BusLostError */
  private receive(): Found {
    const { connection } = this;
    if (connection.congested) return Found.NOTHING;
    const received = connection.receive();
    if (received === Received.NOTHING) return Found.NOTHING;
    if (received === Received.END) throw this.lost('it closed the connection');
    if (received === Received.BROKEN) throw this.lost(connection.fault);
    if ((connection.flags & Flag.TYPE) === Flag.REPLY) return Found.REPLY;
    this.serve();
    return Found.REQUEST;
  }

  private serve(): void {
    let sent: number;
    try {
      sent = serveDma(this.connection, this.shared);
    } catch (error) {
      throw this.lost((error as Error).message);
    }
    if (sent < 0) throw this.lost(gone(sent));
  }

  private unasked(): BusLostError {
    return this.lost(`it sent a reply to ${commandName(this.connection.command)} that nobody waits for`);
  }

  private check({ at, ms }: Limit, name: string): void {
    if (performance.now() < at) return;
    const { connection } = this;
    const what = connection.sending ? 'it did not read' : connection.partial ? 'half a message instead of an answer to' : 'no answer to';
    throw this.lost(`${what} ${name} within ${ms} ms`);
  }

  private sleep(limit: Limit, name: string, also = 0): void {
    this.check(limit, name);
    const { connection, poller } = this;
    const reading = connection.congested ? 0 : Poll.IN;
    poller.set([connection.fd, reading | also | (connection.sending ? Poll.OUT : 0)]);
    poller.wait(Math.ceil(limit.at - performance.now()));
    const flushed = connection.flush();
    if (flushed < 0) throw this.lost(gone(flushed));
  }
}

function gone(result: number): string {
  return result === -Errno.EPIPE || result === -Errno.ECONNRESET ? 'it closed the connection' : `sending failed with errno ${-result}`;
}
