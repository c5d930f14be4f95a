import { closeFd } from '../native/libc.js';
import { Errno, FDS_MAX, SocketBuffer } from '../native/socket.js';
import { Flag, HEADER_BYTES, MAX_MESSAGE } from './messages.js';

/** What {@link Connection.receive} found. */
export const Received = { NOTHING: 0, MESSAGE: 1, END: 2, BROKEN: 3 } as const;
export type Received = (typeof Received)[keyof typeof Received];

const NO_FDS: readonly number[] = [];

/** Bytes that wait for a reader that does not read; from then on nothing more is taken from it. */
const BACKLOG_MAX = 4 << 20;

interface Unsent {
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
}

/**
 * One end of a vfio-user connection: messages in, messages out, nothing ever waits. Descriptors belong to the first byte of a message, so
 * the header is read alone, exactly, and its body after it.
 *
 * After {@link receive} has returned MESSAGE the fields of this object are that message, until the next call.
 */
export class Connection {
  readonly fd: number;
  id = 0;
  command = 0;
  flags = 0;
  /** Error field of the header. */
  error = 0;
  /** Bytes that follow the header. */
  bodyBytes = 0;
  /** The body as numbers, from its start on; {@link bodyBytes} of it are the message's. */
  readonly view: DataView;
  /** Why {@link receive} returned BROKEN. */
  fault = '';
  /** It was the size of a message that broke the connection: its header is at hand, and where the next one begins nobody knows. */
  wrongSize = false;
  /** Descriptors were sent that could not be taken. */
  fdsLost = false;
  private readonly input: SocketBuffer;
  private readonly output: SocketBuffer;
  private readonly inputView: DataView;
  private readonly outputView: DataView;
  private readonly maxMessage: number;
  private received = 0;
  private size = 0;
  private fdList: number[] = [];
  private unsent: Unsent[] = [];
  private unsentBytes = 0;
  private closed = false;

  constructor(fd: number, maxMessage = MAX_MESSAGE) {
    this.fd = fd;
    this.maxMessage = maxMessage;
    this.input = new SocketBuffer(maxMessage);
    this.output = new SocketBuffer(maxMessage);
    this.inputView = new DataView(this.input.bytes.buffer);
    this.outputView = new DataView(this.output.bytes.buffer);
    this.view = new DataView(this.input.bytes.buffer, HEADER_BYTES);
  }

  /** Takes the next message, if all of it is there. */
  receive(): Received {
    if (this.received < HEADER_BYTES) {
      const found = this.receiveHeader();
      if (found !== Received.MESSAGE) return found;
    }
    while (this.received < this.size) {
      const count = this.input.receiveBytes(this.fd, this.received, this.size - this.received);
      if (count === -Errno.EAGAIN || count === -Errno.EINTR) return Received.NOTHING;
      if (count <= 0) return this.ended(count, 'in the middle of a message');
      this.received += count;
    }
    this.bodyBytes = this.size - HEADER_BYTES;
    this.received = 0;
    return Received.MESSAGE;
  }

  private receiveHeader(): Received {
    const { input, inputView } = this;
    if (this.received === 0) this.closeFds(); // what nobody took of the message before
    while (this.received < HEADER_BYTES) {
      const count = input.receive(this.fd, this.received, HEADER_BYTES - this.received);
      if (count === -Errno.EAGAIN || count === -Errno.EINTR) return Received.NOTHING;
      if (count <= 0) return this.ended(count, this.received > 0 ? 'in the middle of a header' : '');
      if (this.received === 0) this.fdsLost = false;
      if (input.truncated) this.fdsLost = true;
      for (const fd of input.fds) this.keepFd(fd);
      this.received += count;
    }
    this.id = inputView.getUint16(0, true);
    this.command = inputView.getUint16(2, true);
    this.size = inputView.getUint32(4, true);
    this.flags = inputView.getUint32(8, true);
    this.error = inputView.getUint32(12, true);
    if (this.size >= HEADER_BYTES && this.size <= this.maxMessage) return Received.MESSAGE;
    this.wrongSize = true;
    this.fault = `a message of ${this.size} bytes, where ${HEADER_BYTES} … ${this.maxMessage} are possible`;
    return Received.BROKEN;
  }

  /** A header that comes in pieces could bring some with each of them. */
  private keepFd(fd: number): void {
    if (this.fdList.length < FDS_MAX) {
      this.fdList.push(fd);
      return;
    }
    closeFd(fd);
    this.fdsLost = true;
  }

  private ended(count: number, where: string): Received {
    if (where === '' && count === 0) return Received.END;
    this.fault = `${count === 0 ? 'the other end closed the connection' : `the connection broke with errno ${-count}`} ${where}`.trim();
    return Received.BROKEN;
  }

  /** What follows the header; valid until the next receive. */
  get body(): Uint8Array<ArrayBuffer> {
    return this.input.bytes.subarray(HEADER_BYTES, HEADER_BYTES + this.bodyBytes);
  }

  /** True in the middle of a message: some of it has been taken, the rest was not there yet. */
  get partial(): boolean {
    return this.received > 0;
  }

  /** Descriptors that came with the message: the caller's from here on. */
  takeFds(): readonly number[] {
    if (this.fdList.length === 0) return NO_FDS;
    const fds = this.fdList;
    this.fdList = [];
    return fds;
  }

  /** Bytes that a message being written can have behind its header. */
  get room(): number {
    return this.maxMessage - HEADER_BYTES;
  }

  /** Where the body of the message to send is written. Of no use to a message that waits: {@link send} takes a copy then. */
  get outBody(): Uint8Array<ArrayBuffer> {
    return this.output.bytes.subarray(HEADER_BYTES);
  }

  /** The same as numbers; offsets count from the body's start on. */
  readonly out = {
    u32: (offset: number, value: number) => this.outputView.setUint32(HEADER_BYTES + offset, value, true),
    u64: (offset: number, value: number) => {
      this.outputView.setUint32(HEADER_BYTES + offset, value >>> 0, true);
      this.outputView.setUint32(HEADER_BYTES + offset + 4, Math.floor(value / 2 ** 32), true);
    },
    bytes: (offset: number, bytes: Uint8Array) => this.output.bytes.set(bytes, HEADER_BYTES + offset),
  };

  /**
   * Sends a message whose body has been written to {@link outBody}. What the other end does not take now goes later, in order.
   * @param fds stay the caller's, who may close them at once
   * @returns 0, or -errno when the connection is of no use any more
   */
  send(id: number, command: number, bodyBytes: number, flags: number, error = 0, fds: readonly number[] = NO_FDS): number {
    const { output, outputView } = this;
    const length = HEADER_BYTES + bodyBytes;
    outputView.setUint16(0, id, true);
    outputView.setUint16(2, command, true);
    outputView.setUint32(4, length, true);
    outputView.setUint32(8, flags, true);
    outputView.setUint32(12, error, true);
    if (this.unsent.length > 0) return this.keep(0, length, fds);
    const sent = output.send(this.fd, 0, length, fds);
    if (sent === length) return 0;
    if (sent < 0 && sent !== -Errno.EAGAIN && sent !== -Errno.EINTR) return sent;
    return this.keep(Math.max(sent, 0), length, sent > 0 ? [] : fds);
  }

  private keep(from: number, to: number, fds: readonly number[]): number {
    // Descriptors would have to be duplicated to wait; replies that carry some are few and short.
    if (fds.length > 0) return -Errno.EAGAIN;
    this.unsent.push({ bytes: this.output.bytes.slice(from, to), fds });
    this.unsentBytes += to - from;
    return 0;
  }

  /** Sends the reply to the message at hand. */
  reply(bodyBytes = 0, fds: readonly number[] = []): number {
    return this.send(this.id, this.command, bodyBytes, Flag.REPLY, 0, fds);
  }

  /** Tells that the message at hand has failed. */
  fail(error: number): number {
    return this.send(this.id, this.command, 0, Flag.REPLY | Flag.ERROR, error);
  }

  /** True while something waits for the other end to read. */
  get sending(): boolean {
    return this.unsent.length > 0;
  }

  /** The other end does not read its replies: nothing more is to be taken from it. */
  get congested(): boolean {
    return this.unsentBytes > BACKLOG_MAX;
  }

  /** Sends what waits. @returns 0, or -errno when the connection is of no use any more */
  flush(): number {
    const { output } = this;
    while (this.unsent.length > 0) {
      const { bytes } = this.unsent[0];
      output.bytes.set(bytes);
      const sent = output.send(this.fd, 0, bytes.length);
      if (sent === -Errno.EAGAIN || sent === -Errno.EINTR) return 0;
      if (sent < 0) return sent;
      this.unsentBytes -= sent;
      if (sent === bytes.length) this.unsent.shift();
      else this.unsent[0] = { bytes: bytes.subarray(sent), fds: [] };
    }
    return 0;
  }

  private closeFds(): void {
    if (this.fdList.length === 0) return;
    for (const fd of this.fdList) closeFd(fd);
    this.fdList = [];
  }

  /** Closes the connection, and descriptors that nobody took. Idempotent. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.closeFds();
    closeFd(this.fd);
  }
}
