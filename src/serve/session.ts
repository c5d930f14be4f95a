import { drainEventfd, signalEventfd } from '../native/eventfd.js';
import { Errno, FDS_MAX, Poll, Poller } from '../native/socket.js';
import { Connection, Received } from '../vfio-user/connection.js';
import { Command, commandName, DMA_ACCESS_BYTES, Flag, field64, MAX_DATA_XFER } from '../vfio-user/messages.js';
import type { CommandTable, Reply } from './commands.js';
import { Refusal } from './files.js';
import type { ServeLimits } from './limits.js';
import type { DmaPort } from './message-memory.js';
import { CurrentRequest, closeFds, keptRequest, type Request } from './request.js';

/** Messages handled between two steps of the function, so that neither starves the other. */
const MESSAGES_PER_LOOK = 64;
/** Commands kept back while an access waits; beyond that the client has to wait with the next. */
const DEFERRED_MAX = 1024;
/** Parts of `dmaBlockedMs`: for an access, and for all of them, once a step has waited as long as it may. */
const GRACE = 0.1;
const OVERTIME = 4;
/** And descriptors that came with them. */
const DEFERRED_FDS_MAX = 16 * FDS_MAX;

/** Writes that were sent and not yet answered, at most. */
const POSTED_MAX = 64;

/** A request of the server's that the client has not answered. */
interface Pending {
  readonly id: number;
  readonly command: number;
  readonly address: number;
  readonly count: number;
  readonly into?: Uint8Array;
}

const describe = ({ command, address, count }: Pending): string => `${commandName(command)} of ${count} bytes at 0x${address.toString(16)}`;

/** What a session says to whoever looks after it. */
export interface SessionHost {
  readonly commands: CommandTable;
  /** In the middle of a step: what the function has written so far is sent before what the client is told now. */
  beforeAnswer(): void;
  log(line: string): void;
  /** Anything that should interrupt a wait: the process is to end. */
  readonly wakeFd: number;
  stopping(): boolean;
  readonly limits: ServeLimits;
}

/**
 * One client, from its connection to its end: takes messages, has them carried out between the function's steps, sends the replies.
 *
 * The function may need bytes that only the client can give it (memory without a file) in the middle of a step. Then {@link read} and
 * {@link write} wait here for the client's answer. A client that waits for an answer itself might never give it, so what it has sent
 * before is answered first, and what it sends meanwhile is answered at once if it does not concern the function's state; everything
 * else is kept, in order, until the step is over.
 */
export class Session implements DmaPort {
  readonly connection: Connection;
  private readonly host: SessionHost;
  private readonly current: CurrentRequest;
  private readonly poller = new Poller(2);
  private readonly deferred: Request[] = [];
  private deferredFds = 0;
  private readonly posted: Pending[] = [];
  /** Replies wait for these: some kept request of the client's needs one. */
  private clientWaits = false;
  /** ms that this step has waited for the client. */
  private waited = 0;
  /** And since that was too much. */
  private overtime = 0;
  /** What waits to be sent before an answer is being sent: no other answer now. */
  private answering = false;
  private woken = false;
  private nextId = 1;
  private alive = true;
  /** The client says no more; it may still read its replies. */
  private silent = false;
  /** VERSION has been agreed on. */
  private negotiated = false;
  /** Why it ended; '' for an orderly end. */
  ending = '';
  /** Most bytes of data in a message to the client. */
  private maxTransfer = MAX_DATA_XFER;
  handled = 0;

  constructor(fd: number, host: SessionHost) {
    this.connection = new Connection(fd);
    this.current = new CurrentRequest(this.connection);
    this.host = host;
  }

  get open(): boolean {
    return this.alive;
  }

  /** Events of the connection to wait for. Who does not read is not listened to, and only its end is news then. */
  get wanted(): number {
    const { congested, sending } = this.connection;
    return (congested || this.silent ? 0 : Poll.IN | Poll.PEER_CLOSED) | (sending ? Poll.OUT : 0);
  }

  /** Takes and carries out messages that are there. @returns how many */
  pump(): number {
    const { connection } = this;
    if (connection.sending && connection.flush() < 0) this.end('it does not take its replies any more');
    let count = 0;
    while (this.alive && this.deferred.length > 0) {
      count++;
      this.perform(this.deferred.shift() as Request);
    }
    this.deferredFds = 0;
    this.clientWaits = false;
    while (this.alive && !this.silent && count < MESSAGES_PER_LOOK && !connection.congested) {
      const received = connection.receive();
      if (received === Received.NOTHING) break;
      count++;
      if (!this.arrived(received)) continue;
      // A change of the migration state may ask the client for bytes, and so take other messages meanwhile.
      this.perform(connection.command === Command.DEVICE_FEATURE ? keptRequest(connection) : this.current.take());
    }
    if (this.silent && !connection.sending) this.end('');
    return count;
  }

  /** Looks after everything that is not a command. @returns whether a command is at hand */
  private arrived(received: Received): boolean {
    const { connection } = this;
    if (received === Received.END) this.silent = true;
    else if (received === Received.BROKEN) this.broken();
    else if ((connection.flags & Flag.TYPE) === Flag.COMMAND) return true;
    else this.answeredPosted();
    return false;
  }

  private broken(): void {
    const { connection } = this;
    if (connection.wrongSize) this.fail(connection.id, connection.command, Errno.EINVAL);
    this.end(connection.fault);
  }

  private perform(request: Request): void {
    this.handled++;
    try {
      if (!this.negotiated && request.command !== Command.VERSION) {
        this.fail(request.id, request.command, Errno.EINVAL);
        this.end(`it began with ${commandName(request.command)}, not with VERSION`);
        return;
      }
      const result = request.command === Command.VERSION ? this.version(request) : this.host.commands.perform(request, this.connection);
      if (result instanceof Refusal) this.refuse(request, result);
      else if (!request.noReply) this.reply(request, result);
    } finally {
      closeFds(request);
    }
  }

  private version(request: Request): Reply | Refusal {
    if (this.negotiated) return new Refusal(Errno.EINVAL, 'VERSION has been agreed on already');
    const agreed = this.host.commands.version(request, this.connection);
    if (agreed instanceof Refusal) {
      this.fail(request.id, request.command, agreed.errno);
      this.end(agreed.why);
      return { bytes: 0 };
    }
    this.negotiated = true;
    this.maxTransfer = Math.min(agreed.maxTransfer, MAX_DATA_XFER);
    return agreed.reply;
  }

  private refuse(request: Request, { errno, why }: Refusal): void {
    this.host.log(`${commandName(request.command)} refused (errno ${errno}): ${why}`);
    if (!request.noReply) this.fail(request.id, request.command, errno);
  }

  private reply({ id, command }: Request, { bytes, fds }: Reply): void {
    if (this.alive && this.connection.send(id, command, bytes, Flag.REPLY, 0, fds) < 0) this.end('it does not take its replies any more');
  }

  private fail(id: number, command: number, errno: number): void {
    if (this.alive && this.connection.send(id, command, 0, Flag.REPLY | Flag.ERROR, errno) < 0)
      this.end('it does not take its replies any more');
  }

  private end(why: string): void {
    if (!this.alive) return;
    this.alive = false;
    this.ending = why;
  }

  close(): void {
    this.alive = false;
    for (const request of this.deferred) closeFds(request);
    this.deferred.length = 0;
    this.connection.close();
  }

  // ---- DMA_READ and DMA_WRITE

  read(address: number, into: Uint8Array): boolean {
    for (let done = 0; done < into.length; ) {
      const count = Math.min(into.length - done, this.maxTransfer);
      if (!this.transfer(Command.DMA_READ, address + done, count, undefined, into.subarray(done, done + count))) return false;
      done += count;
    }
    return true;
  }

  write(address: number, bytes: Uint8Array): boolean {
    for (let done = 0; done < bytes.length; ) {
      const count = Math.min(bytes.length - done, this.maxTransfer);
      if (!this.transfer(Command.DMA_WRITE, address + done, count, bytes.subarray(done, done + count), undefined)) return false;
      done += count;
    }
    return true;
  }

  post(address: number, bytes: Uint8Array): void {
    // A client that answers nothing must not let the list grow for ever.
    if (this.posted.length >= POSTED_MAX) this.settle();
    // Before any answer that comes after it: what a register tells may lie in these bytes.
    const id = this.ask(Command.DMA_WRITE, address, bytes.length, bytes);
    if (id !== 0) this.posted.push({ id, command: Command.DMA_WRITE, address, count: bytes.length });
  }

  settle(): void {
    while (this.posted.length > 0) this.await(this.posted[0]);
  }

  /** The next step may wait again. */
  endStep(): void {
    this.waited = 0;
    this.overtime = 0;
  }

  /**
   * ms that the next access may wait. A client that answers nothing, or slowly, must not hold a step up for long; but that an access has
   * failed is written to memory as well, and may reach a client that answers other things at once.
   */
  private get patience(): number {
    const { dmaMs, dmaBlockedMs } = this.host.limits;
    const left = (this.clientWaits ? dmaBlockedMs : dmaMs) - this.waited;
    if (left > 0 && this.overtime === 0) return left;
    return this.overtime < OVERTIME * dmaBlockedMs ? GRACE * dmaBlockedMs : 0;
  }

  /** There is room for more of what the client sends, and it reads its replies. */
  private get listens(): boolean {
    return !this.silent && this.deferred.length < DEFERRED_MAX && this.deferredFds < DEFERRED_FDS_MAX && !this.connection.congested;
  }

  private transfer(command: number, address: number, count: number, data: Uint8Array | undefined, into: Uint8Array | undefined): boolean {
    this.answerFirst();
    if (this.patience <= 0) return false;
    const id = this.ask(command, address, count, data);
    return id !== 0 && this.await({ id, command, address, count, into });
  }

  /** Sends a request of the server's. @returns its id; 0 when there is nobody to ask */
  private ask(command: number, address: number, count: number, data: Uint8Array | undefined): number {
    const { connection } = this;
    if (!this.alive || this.silent || connection.congested) return 0;
    const id = this.nextId;
    this.nextId = id === 0xffff ? 1 : id + 1;
    connection.out.u64(0, address);
    connection.out.u64(8, count);
    if (data !== undefined) connection.out.bytes(DMA_ACCESS_BYTES, data);
    if (connection.send(id, command, DMA_ACCESS_BYTES + (data?.length ?? 0), Flag.COMMAND) >= 0) return id;
    this.end('it does not take its requests any more');
    return 0;
  }

  /** What the client has sent so far is answered before it is asked for anything. */
  private answerFirst(): void {
    // Whoever never stops sending is not waited for.
    for (let count = 0; this.alive && this.listens && count < DEFERRED_MAX; count++) {
      const received = this.connection.receive();
      if (received === Received.NOTHING) return;
      if (this.arrived(received)) this.meanwhile();
    }
  }

  /** Waits for the answer to one request; those to posted ones come on the way. @returns whether all is well with it */
  private await(wanted: Pending): boolean {
    const begun = performance.now();
    const left = this.patience;
    const over = left <= GRACE * this.host.limits.dmaBlockedMs;
    let answer: boolean | undefined;
    for (let passed = 0; this.alive && !this.silent && answer === undefined; passed = performance.now() - begun) {
      if (passed >= Math.min(left, this.patience) || this.host.stopping()) {
        this.host.log(`${describe(wanted)} was not answered; the access counts as refused`);
        break;
      }
      answer = this.hear(wanted, Math.min(left, this.patience) - passed);
    }
    const elapsed = performance.now() - begun;
    if (over) this.overtime += elapsed;
    else this.waited += elapsed;
    if (this.woken) {
      this.woken = false;
      signalEventfd(this.host.wakeFd);
    }
    this.forget(wanted.id);
    return answer ?? false;
  }

  /** Takes one message, or waits for it. @returns whether all is well, when it is the answer to `wanted` */
  private hear(wanted: Pending, leftMs: number): boolean | undefined {
    const { connection } = this;
    const received = this.listens ? connection.receive() : Received.NOTHING;
    if (received === Received.NOTHING) this.pause(leftMs);
    else if (received === Received.MESSAGE && (connection.flags & Flag.TYPE) === Flag.REPLY) {
      if (connection.id === wanted.id && connection.command === wanted.command) {
        this.forget(wanted.id);
        return this.answered(wanted);
      }
      this.answeredPosted();
    } else if (this.arrived(received)) this.meanwhile();
    return undefined;
  }

  private pause(leftMs: number): void {
    const { connection, poller, host } = this;
    const wanted = (this.listens ? Poll.IN : 0) | (connection.sending ? Poll.OUT : 0);
    poller.set([connection.fd, wanted], [host.wakeFd, Poll.IN]);
    poller.wait(Math.ceil(leftMs));
    if (poller.found(1) !== 0 && !host.stopping()) {
      // Not for this wait: it is kept for the loop, which looks after what the others want.
      drainEventfd(host.wakeFd);
      this.woken = true;
    }
    if (connection.sending && connection.flush() < 0) this.end('it does not take its requests any more');
  }

  private forget(id: number): void {
    const at = this.posted.findIndex((pending) => pending.id === id);
    if (at >= 0) this.posted.splice(at, 1);
  }

  /** A reply that is not the one waited for. */
  private answeredPosted(): void {
    const { id, command } = this.connection;
    const pending = this.posted.find((one) => one.id === id && one.command === command);
    if (pending === undefined) {
      this.host.log(`a reply to ${commandName(command)} that nobody waits for`);
      return;
    }
    this.forget(id);
    this.answered(pending);
  }

  private answered(pending: Pending): boolean {
    const { connection, host } = this;
    const { body, view } = connection;
    const { address, count, into } = pending;
    const why = (): string | undefined => {
      if ((connection.flags & Flag.ERROR) !== 0) return `errno ${connection.error}`;
      if (body.length < DMA_ACCESS_BYTES || field64(view, 0) !== address) return 'a reply to something else';
      if (field64(view, 8) !== count) return `${field64(view, 8)} bytes of it`;
      return into !== undefined && body.length !== DMA_ACCESS_BYTES + count ? `a reply of ${body.length} bytes` : undefined;
    };
    const refusal = why();
    if (refusal !== undefined) {
      host.log(`${describe(pending)} failed with ${refusal}`);
      return false;
    }
    into?.set(body.subarray(DMA_ACCESS_BYTES, DMA_ACCESS_BYTES + count));
    return true;
  }

  /** A command that comes in the middle of a step. */
  private meanwhile(): void {
    const request = keptRequest(this.connection);
    if (!this.answering && this.deferred.length === 0 && (!this.negotiated || this.host.commands.independent(request))) {
      this.answering = true;
      try {
        this.host.beforeAnswer();
        this.perform(request);
      } finally {
        this.answering = false;
      }
      return;
    }
    this.deferred.push(request);
    this.deferredFds += request.fds.length;
    if (!request.noReply) this.clientWaits = true;
  }
}
