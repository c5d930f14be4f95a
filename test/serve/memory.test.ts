import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ARENA_IOVA, DATA, Mini } from './mini.js';
import { type Rig, startServer } from './rig.js';

let rig: Rig;
beforeEach(async () => {
  rig = await startServer();
});
afterEach(() => rig.close());

describe('x', () => {
  it.each([false, true])('copies %s', (byMessages) => {
    const mini = new Mini(rig.connect());
    mini.grant({ byMessages });
    mini.up();
    mini.bytes.fill(0x5a, DATA, DATA + 5000);
    mini.copy(ARENA_IOVA + DATA, ARENA_IOVA + DATA + 0x8000, 5000);
    mini.ring();
    mini.until('copy', () => mini.done);
    expect(mini.failed).toBe(false);
    expect(mini.bytes.subarray(DATA + 0x8000, DATA + 0x8000 + 5000).equals(mini.bytes.subarray(DATA, DATA + 5000))).toBe(true);
    mini.close();
  });
});
