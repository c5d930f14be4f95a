import { Window } from '../memory/window.js';
import { closeFd, createMemfd, mapShared, unmap } from '../native/libc.js';

/** What a doorbell holds while nobody has rung it: no Write_Index gets there. */
const QUIET = 0xffff_ffff;

/**
 * Doorbells that the client maps and rings without a message (option `mapDoorbells`). Nobody tells when it does, so they are looked at
 * again and again; a value that was seen is taken out, so that ringing twice with the same value is noticed twice.
 */
export class Doorbells {
  readonly fd: number;
  readonly byteLength: number;
  private readonly address: number;
  private readonly window: Window;
  private readonly stride: number;
  private readonly contexts: number;

  /** @param byteLength of BAR 2 */
  constructor(byteLength: number, stride: number, contexts: number) {
    this.fd = createMemfd('sdxi-doorbells', byteLength);
    this.byteLength = byteLength;
    this.address = mapShared(this.fd, 0, byteLength);
    this.window = Window.over(this.address, byteLength).window;
    this.stride = stride;
    this.contexts = contexts;
    this.reset();
  }

  /** Nobody has rung. */
  reset(): void {
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
    unmap(this.address, this.byteLength);
    closeFd(this.fd);
  }
}
