import { Window } from '../memory/window.js';
import { closeFd, createMemfd, mapShared, unmap } from '../native/libc.js';

/** What a doorbell holds while nobody has rung it: no Write_Index gets there. */
const QUIET = 0xffff_ffff;

/**
 * Doorbells that the client maps and rings without a message (option `mapDoorbells`). Nobody tells when it does, so they are looked at
 * again and again; a value that was seen is taken out, so that ringing twice with the same value is noticed twice.
 */
export class Doorbells {
  readonly byteLength: number;
  private file: { readonly fd: number; readonly address: number; readonly window: Window };
  private readonly stride: number;
  private readonly contexts: number;

  /** @param byteLength of BAR 2 */
  constructor(byteLength: number, stride: number, contexts: number) {
    this.byteLength = byteLength;
    this.stride = stride;
    this.contexts = contexts;
    this.file = this.open();
    this.quiet();
  }

  get fd(): number {
    return this.file.fd;
  }

  private get window(): Window {
    return this.file.window;
  }

  private open(): Doorbells['file'] {
    const fd = createMemfd('sdxi-doorbells', this.byteLength);
    const address = mapShared(fd, 0, this.byteLength);
    return { fd, address, window: Window.over(address, this.byteLength).window };
  }

  /** For the next client: the one before may still have the old ones mapped, and must not see or ring what is another's. */
  renew(): void {
    this.close();
    this.file = this.open();
    this.quiet();
  }

  private quiet(): void {
    for (let context = 0; context < this.contexts; context++) {
      const word = (context * this.stride) >>> 2;
      this.window.u32[word] = QUIET;
      this.window.u32[word + 1] = QUIET;
    }
  }

  /** Hands out what was rung since. @returns how many */
  look(ring: (context: number, value: number) => void): number {
    const { contexts, stride, window } = this;
    let rung = 0;
    for (let context = 0; context < contexts; context++) {
      const word = (context * stride) >>> 2;
      if (window.u32[word] === QUIET && window.u32[word + 1] === QUIET) continue;
      const value = Atomics.exchange(window.i64, word >>> 1, -1n);
      ring(context, Number(BigInt.asUintN(53, value)));
      rung++;
    }
    return rung;
  }

  close(): void {
    unmap(this.file.address, this.byteLength);
    closeFd(this.file.fd);
  }
}
