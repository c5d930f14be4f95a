import { availableParallelism } from 'node:os';

const pause = (Atomics as unknown as { pause?: () => void }).pause ?? (() => {});

/** Nobody notifies this word. */
const never = new Int32Array(new SharedArrayBuffer(4));

/** Without a second processor whoever is waited for cannot run while we spin. */
export const CAN_SPIN = availableParallelism() > 1;

/** A moment between two looks at a shared word. */
export function relax(): void {
  if (CAN_SPIN) pause();
  // 50 µs in which another thread may have the processor.
  else Atomics.wait(never, 0, 0, 0.05);
}
