// The one part of WebAssembly that this package names. TypeScript has it only in its DOM library, which would bring in every browser global.
declare namespace WebAssembly {
  interface MemoryDescriptor {
    /** In pages of 64 KiB. */
    initial: number;
    maximum?: number;
    shared?: boolean;
  }

  class Memory {
    constructor(descriptor: MemoryDescriptor);
    readonly buffer: ArrayBuffer | SharedArrayBuffer;
    /** Grows by `delta` pages and detaches the old buffer (unless it is shared). */
    grow(delta: number): number;
  }
}
