// A producer in a thread of its own: copies numbered 4-byte values into a table, through a ring that another thread owns.
import { parentPort, workerData } from 'node:worker_threads';
import { doorbellOf } from '../../dist/bus/index.js';
import { Ring } from '../../dist/driver/index.js';
import { encodeWriteImmediate, NO_CSB } from '../../dist/spec/index.js';

const { ring: share, embedded, count, batch, value, table } = workerData;
const knock = embedded ? doorbellOf(embedded) : () => {};
const ring = Ring.attach(share, (writeIndex) => knock(share.doorbell, writeIndex));
const data = new Uint8Array(4);
let full = 0;
for (let done = 0; done < count; ) {
  const n = Math.min(batch, count - done);
  const first = ring.tryReserve(n);
  if (first < 0) {
    full++;
    continue;
  }
  for (let i = 0; i < n; i++) {
    new DataView(data.buffer).setUint32(0, value + done + i, true);
    const last = i === n - 1;
    const index = first + i;
    if (last) ring.arm(ring.blockWord(index));
    encodeWriteImmediate(
      ring.u32,
      ring.slotWord(index),
      last ? 4 : 0,
      last ? ring.blockIova(index) : NO_CSB,
      4,
      0,
      table + 4 * (done + i),
      data,
      0,
    );
  }
  ring.publish(first, n);
  ring.ringDoorbell(first + n);
  done += n;
  // The producer waits for its own completion now and then, as an application would.
  const word = ring.blockWord(first + n - 1);
  if (embedded && done % (batch * 8) === 0) while (!ring.isDone(word));
}
parentPort?.postMessage({ full });
