import { BusLostError, ClosedError, SdxiError, type SdxiErrorCode, TimeoutError } from '../../errors.js';
import { CAN_SPIN, relax } from '../../memory/spin.js';
import { BAR0_BYTES } from '../../spec/limits.js';
import type { WaitOptions } from '../bus.js';
import { checkDoorbellValue, checkOffset, checkRegisterValue, checkSpin, checkVector, checkWait } from '../checks.js';
import { sleepOnInterrupts } from '../sleep.js';
import { Channel, type ChannelShape, Life, Op, Slot } from './channel.js';

/** All that another thread needs to reach the same function: may be posted to a worker. */
export interface EmbeddedShare extends ChannelShape {
  readonly uri: string;
  readonly buffer: SharedArrayBuffer;
  /** Bytes between two doorbells. */
  readonly stride: number;
  readonly doorbellBytes: number;
  readonly registerTimeoutMs: number;
  readonly counterNames: readonly string[];
  /** Of a virtual function: the channel that the engine sleeps on. */
  readonly primary?: ChannelShape & { readonly buffer: SharedArrayBuffer };
}

/** How long a caller looks at the slot before it sleeps: an engine that copies answers within a slice. */
const SPIN_MS = 0.1;
/** A wait is cut in so many pieces: a process that was stopped for a while loses one of them, not all. */
const PIECES = 8;

/**
 * The user's end of an embedded function: everything of a bus that any thread may do. {@link EmbeddedBus} is this and the
 * owner of the engine thread; other threads make one from what `share()` gave them. Registers may be used by several threads
 * at once: one access at a time, the others wait.
 */
export class EmbeddedClient {
  readonly uri: string;
  readonly vectors: number;
  readonly doorbellBytes: number;
  protected readonly channel: Channel;
  protected readonly registerTimeoutMs: number;
  private readonly stride: number;
  private readonly perStride: number;
  private readonly counterNames: readonly string[];
  private readonly primary: EmbeddedShare['primary'];
  /** Waits in progress: only a lone one may spin. */
  private waiting = 0;
  private references = 0;
  private keeper?: NodeJS.Timeout;

  constructor(share: EmbeddedShare) {
    const { primary } = share;
    this.primary = primary;
    this.channel = new Channel(share, share.buffer, primary && new Channel(primary, primary.buffer));
    this.uri = share.uri;
    this.vectors = share.vectors;
    this.doorbellBytes = share.doorbellBytes;
    this.registerTimeoutMs = share.registerTimeoutMs;
    this.stride = share.stride;
    this.perStride = 1 / share.stride;
    this.counterNames = share.counterNames;
  }

  /** What other threads need to attach; structured-clonable. */
  share(): EmbeddedShare {
    const { uri, vectors, doorbellBytes, registerTimeoutMs, counterNames, stride, primary } = this;
    const { buffer, shape } = this.channel;
    return { uri, buffer, maxContext: shape.maxContext, vectors, stride, doorbellBytes, registerTimeoutMs, counterNames, primary };
  }

  // ---- Registers and doorbells ----

  /** Reads the 64-bit register at a byte offset of BAR 0. */
  readRegister(offset: number): bigint {
    checkOffset(offset, BAR0_BYTES, 'registers');
    const { channel } = this;
    this.acquire();
    try {
      channel.numbers[0] = offset;
      this.request(Op.READ);
      return channel.value[0];
    } finally {
      this.release();
    }
  }

  /** Writes a 64-bit register; returns after the function has seen it, and after it has seen this thread's earlier doorbells (S-10). */
  writeRegister(offset: number, value: bigint): void {
    checkOffset(offset, BAR0_BYTES, 'registers');
    checkRegisterValue(value);
    this.acquire();
    try {
      this.channel.numbers[0] = offset;
      this.channel.value[0] = value;
      this.request(Op.WRITE);
    } finally {
      this.release();
    }
  }

  /** 64-bit write at a byte offset of BAR 2; posted. */
  writeDoorbell(offset: number, value: number): void {
    if (this.channel.life !== Life.RUNNING) this.check();
    checkDoorbellValue(value);
    // One at the start of a stride of a context that exists needs no answer; the function decides about all others.
    // Strides are powers of two: the product is exact, and a whole number only there.
    const context = offset * this.perStride;
    if (context >>> 0 === context && context <= this.channel.shape.maxContext) this.channel.ring(context, value);
    else this.rawDoorbell(offset, value);
  }

  private rawDoorbell(offset: number, value: number): void {
    checkOffset(offset, this.doorbellBytes, 'doorbells');
    this.acquire();
    try {
      this.channel.numbers[0] = offset;
      this.channel.value[0] = BigInt(value);
      this.request(Op.DOORBELL);
    } finally {
      this.release();
    }
  }

  // ---- Interrupts ----

  /** How often a vector has been delivered so far (modulo 2^32). */
  interruptCount(vector: number): number {
    this.check();
    checkVector(vector, this.vectors);
    return this.channel.interrupts.count(vector);
  }

  /** From its return on no delivery of the vector is counted. */
  maskInterrupt(vector: number): void {
    this.check();
    checkVector(vector, this.vectors);
    this.channel.interrupts.mask(vector);
  }

  unmaskInterrupt(vector: number): void {
    this.check();
    checkVector(vector, this.vectors);
    this.channel.interrupts.unmask(vector);
  }

  interruptPending(vector: number): boolean {
    this.check();
    checkVector(vector, this.vectors);
    return this.channel.interrupts.pending(vector);
  }

  // ---- Waiting ----

  /** @see Bus.wait */
  async wait(condition: () => boolean, options: WaitOptions): Promise<void> {
    this.check();
    checkWait(condition, options, this.vectors);
    if (condition()) return;
    const alone = this.waiting === 0;
    this.waiting++;
    try {
      await sleepOnInterrupts(this.channel.interrupts, this, condition, options, alone);
    } finally {
      this.waiting--;
    }
  }

  /** @see Bus.spin */
  spin(condition: () => boolean, timeoutMs: number): boolean {
    checkSpin(condition, timeoutMs);
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      this.check();
      for (let look = 0; look < 16; look++) {
        if (condition()) return true;
        relax();
      }
      if (performance.now() >= deadline) return condition();
    }
  }

  ref(): void {
    if (this.references++ === 0) this.keepAlive(true);
  }

  unref(): void {
    if (this.references > 0 && --this.references === 0) this.keepAlive(false);
  }

  /** Keeps this thread's event loop alive, or no longer. */
  protected keepAlive(on: boolean): void {
    if (on) this.keeper = setInterval(() => {}, 2 ** 30);
    else clearInterval(this.keeper);
  }

  /** What the function has done so far; the last published state once it is gone. */
  counters(): Record<string, number> {
    if (this.channel.life === Life.RUNNING) {
      this.acquire();
      try {
        this.request(Op.PUBLISH);
      } finally {
        this.release();
      }
    }
    return Object.fromEntries(this.counterNames.map((name, i) => [name, this.channel.counters[i]]));
  }

  // ---- Requests ----

  /** @throws ClosedError, BusLostError */
  check(): void {
    const { life } = this.channel;
    if (life === Life.RUNNING) return;
    if (life === Life.LOST) throw this.lostError();
    throw new ClosedError(this.uri);
  }

  protected lostError(): BusLostError {
    const { reason } = this.channel;
    return new BusLostError(`the engine of ${this.uri} is gone${reason ? `: ${reason}` : ''}`, { fields: { uri: this.uri, reason } });
  }

  /** Takes the request slot for this thread. */
  protected acquire(): void {
    this.check();
    const { words, lock } = this.channel;
    if (Atomics.compareExchange(words, lock, 0, 1) === 0) return;
    for (let look = 0; CAN_SPIN && look < 200; look++) {
      relax();
      if (Atomics.load(words, lock) === 0 && Atomics.compareExchange(words, lock, 0, 1) === 0) return;
    }
    // The holder gives up after one timeout; whoever stands in line waits a second one for it.
    const piece = this.registerTimeoutMs / PIECES;
    for (let left = 2 * PIECES; left > 0; ) {
      // 2 = someone waits: the holder will notify.
      if (Atomics.exchange(words, lock, 2) === 0) return;
      if (Atomics.wait(words, lock, 2, piece) === 'timed-out') left--;
      this.check();
    }
    throw new TimeoutError('register access', this.registerTimeoutMs * 2, {
      hint: 'another thread has kept the registers: it may have been terminated in the middle of an access; open the function again',
      fields: { uri: this.uri },
    });
  }

  protected release(): void {
    const { words, lock } = this.channel;
    if (Atomics.exchange(words, lock, 0) === 2) Atomics.notify(words, lock, 1);
  }

  /** Hands the filled slot to the engine and waits for the answer. @throws BusLostError, ClosedError */
  protected request(op: Op): void {
    const { channel } = this;
    const { words, slot } = channel;
    channel.post(op);
    for (let look = 0; look < 64; look++) if (Atomics.load(words, slot) === Slot.DONE) return;
    if (CAN_SPIN) {
      const until = performance.now() + SPIN_MS;
      do {
        for (let look = 0; look < 64; look++) {
          if (Atomics.load(words, slot) === Slot.DONE) return;
          relax();
        }
      } while (performance.now() < until);
    }
    const piece = this.registerTimeoutMs / PIECES;
    for (let left = PIECES; left > 0; ) {
      if (Atomics.compareExchange(words, slot, Slot.PENDING, Slot.PENDING_ASLEEP) === Slot.DONE) return;
      // Waits on one address, so an answer in between makes it return at once.
      if (Atomics.wait(words, slot, Slot.PENDING_ASLEEP, piece) === 'timed-out') left--;
      if (Atomics.load(words, slot) === Slot.DONE) return;
      this.check();
    }
    channel.fail(`no answer within ${this.registerTimeoutMs} ms`);
    this.check();
  }

  /** Turns a status into the error that it stands for. */
  protected checkStatus(): void {
    const { status } = this.channel;
    if (status === 0) return;
    const { code, message, hint, fields } = JSON.parse(this.channel.readText(status));
    throw new SdxiError(code as SdxiErrorCode, message, { hint, fields });
  }
}

/** Attaches this thread to a function that another thread opened. */
export function attachEmbedded(share: EmbeddedShare): EmbeddedClient {
  return new EmbeddedClient(share);
}

/** The doorbell alone, for a producer in another thread: writes at an offset of BAR 2, as `Bus.writeDoorbell` does. */
export function doorbellOf(share: EmbeddedShare): (offset: number, value: number) => void {
  const client = new EmbeddedClient(share);
  return (offset, value) => client.writeDoorbell(offset, value);
}
