import { addressOf, viewMemory } from '../native/libc.js';

/** Windows are at most 2 GiB: indexing beyond costs 1.4–2×, and a view over 4 GiB aborts Node 20. */
export const WINDOW_MAX = 2 ** 31;

/** On an ArrayBuffer over borrowed memory: whatever must stay alive for the bytes to stay valid, as long as any view of them is held. */
const OWNER = Symbol('sdxi.owner');

/**
 * A stretch of memory as this thread sees it: four typed-array views over one ArrayBuffer, whose first byte lies on an
 * 8-byte boundary of the process. A window grants nothing; {@link Mapping} does.
 */
export class Window {
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly i64: BigInt64Array;

  constructor(buffer: ArrayBuffer) {
    this.u8 = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer, 0, buffer.byteLength >>> 2);
    this.i32 = new Int32Array(buffer, 0, buffer.byteLength >>> 2);
    this.i64 = new BigInt64Array(buffer, 0, buffer.byteLength >>> 3);
  }

  get byteLength(): number {
    return this.u8.byteLength;
  }

  /**
   * A window over process memory. `address` may be odd: the window then starts at the 8-byte boundary below it and ends at
   * the one above its end, which are bytes of the same cache line and never touched through a mapping.
   * @param owner kept alive as long as any view over the window
   * @returns the window and the offset of `address` in it.
   */
  static over(address: number, byteLength: number, owner?: unknown): { window: Window; offset: number } {
    const start = address - (address % 8);
    const end = Math.ceil((address + byteLength) / 8) * 8;
    if (end - start > WINDOW_MAX) throw new RangeError(`a window holds at most ${WINDOW_MAX} bytes`);
    const buffer = viewMemory(start, end - start);
    if (owner !== undefined) Object.defineProperty(buffer, OWNER, { value: owner });
    return { window: new Window(buffer), offset: address - start };
  }

  /** A window over ordinary memory, which it keeps alive. */
  static of(bytes: Uint8Array): { window: Window; offset: number } {
    return Window.over(addressOf(bytes), bytes.byteLength, bytes);
  }
}
