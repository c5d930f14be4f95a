import type { BusLostError } from '../../errors.js';
import { Errno, Poll, Poller } from '../../native/socket.js';
import { Connection, Received } from '../../vfio-user/connection.js';
import { commandName, Flag } from '../../vfio-user/messages.js';
import { serveDma } from './dma.js';
import type { SharedLink } from './shared.js';

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

  /** @param lost notes why nothing can come any more, and makes the error that says so */
  constructor(fd: number, shared: SharedLink, lost: (reason: string) => BusLostError) {
    this.connection = new Connection(fd);
    this.shared = shared;
    this.lost = lost;
  }

  /** Nothing that the server says can be relied on any more. */
  abandon(reason: string): BusLostError {
    return this.lost(reason);
  }

  /** Runs something with the socket held. @throws BusLostError */
  hold<T>(timeoutMs: number, action: () => T): T {
    if (!this.shared.acquire(timeoutMs)) throw this.lost(`the socket was kept for ${timeoutMs} ms`);
    try {
      return action();
    } finally {
      this.shared.release();
    }
  }

  /**
   * Sends a command whose body `fill` writes, and waits for the reply, which {@link connection} has then.
   * @returns 0, or the errno of the reply (EIO when it has none)
   * @throws BusLostError when there is no reply, or one to something else
   */
  request(command: number, bytes: number, fill: (connection: Connection) => void, timeoutMs: number, fds: readonly number[] = []): number {
    const deadline = performance.now() + timeoutMs;
    const id = this.send(command, bytes, fill, Flag.COMMAND, fds);
    return this.answer(id, command, deadline, timeoutMs);
  }

  /** Sends a command that is not answered; returns when the kernel has it. @throws BusLostError */
  post(command: number, bytes: number, fill: (connection: Connection) => void, timeoutMs: number): void {
    this.send(command, bytes, fill, Flag.COMMAND | Flag.NO_REPLY, []);
    if (!this.connection.sending) return;
    for (const deadline = performance.now() + timeoutMs; this.connection.sending; ) {
      // A server that reads nothing may itself wait for an answer.
      this.receive();
      this.sleep(deadline, timeoutMs, commandName(command));
    }
  }

  private send(command: number, bytes: number, fill: (connection: Connection) => void, flags: number, fds: readonly number[]): number {
    const { connection } = this;
    const id = this.nextId;
    this.nextId = id === 0xffff ? 1 : id + 1;
    fill(connection);
    const sent = connection.send(id, command, bytes, flags, 0, fds);
    if (sent < 0) throw this.lost(gone(sent));
    return id;
  }

  private answer(id: number, command: number, deadline: number, timeoutMs: number): number {
    const { connection } = this;
    for (;;) {
      if (!this.receive()) {
        this.sleep(deadline, timeoutMs, commandName(command));
        continue;
      }
      if (connection.id !== id || connection.command !== command) {
        throw this.lost(`it answered ${commandName(connection.command)} (${connection.id}) when asked for ${commandName(command)} (${id})`);
      }
      if ((connection.flags & Flag.ERROR) === 0) return 0;
      return connection.error === 0 ? Errno.EIO : connection.error;
    }
  }

  /** Takes what is there. @returns true when a reply is at hand; false when there is nothing more. @throws BusLostError */
  private receive(): boolean {
    const { connection } = this;
    for (;;) {
      const received = connection.receive();
      if (received === Received.NOTHING) return false;
      if (received === Received.END) throw this.lost('it closed the connection');
      if (received === Received.BROKEN) throw this.lost(connection.fault);
      if ((connection.flags & Flag.TYPE) === Flag.REPLY) return true;
      this.serve();
    }
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

  private sleep(deadline: number, timeoutMs: number, what: string): void {
    const { connection, poller } = this;
    const left = deadline - performance.now();
    if (left <= 0) throw this.lost(`no answer to ${what} within ${timeoutMs} ms`);
    poller.set([connection.fd, Poll.IN | (connection.sending ? Poll.OUT : 0)]);
    poller.wait(Math.ceil(left));
    const flushed = connection.flush();
    if (flushed < 0) throw this.lost(gone(flushed));
  }

  /**
   * Answers what the server asks for while nobody waits for a reply of it; ends between two messages. For the watcher.
   * @throws BusLostError, also for a reply that nobody waits for
   */
  attend(timeoutMs: number): void {
    const deadline = performance.now() + timeoutMs;
    const { connection } = this;
    for (;;) {
      if (this.receive()) throw this.lost(`it sent a reply to ${commandName(connection.command)} that nobody waits for`);
      if (!connection.partial && !connection.sending) return;
      this.sleep(deadline, timeoutMs, 'the rest of a message');
    }
  }
}

function gone(result: number): string {
  return result === -Errno.EPIPE || result === -Errno.ECONNRESET ? 'it closed the connection' : `sending failed with errno ${-result}`;
}
