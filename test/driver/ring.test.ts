import { describe, expect, it } from 'vitest';
import type { SdxiError } from '../../src/errors.js';
import { encodeNop, NO_CSB } from '../../src/spec/encode.js';
import { MemoryRing } from './memory-ring.js';

const codeOf = (action: () => unknown): string => {
  try {
    action();
  } catch (error) {
    return (error as SdxiError).code;
  }
  return 'nothing thrown';
};

/** Claims, encodes and publishes NOPs that carry a number in dword 1. */
function produce(rig: MemoryRing, numbers: number[]): void {
  const first = rig.ring.reserve(numbers.length);
  numbers.forEach((number, i) => {
    const word = rig.ring.slotWord(first + i);
    encodeNop(rig.ring.u32, word, 0, NO_CSB);
    rig.ring.u32[word + 1] = number;
  });
  rig.ring.publish(first, numbers.length);
  rig.ring.ringDoorbell(first + numbers.length);
}

describe('ref §13.5: reservation in a ring of 1024', () => {
  it('row 1: an empty ring gives all 1024, indices 0…1023; Write_Index and doorbell value are 1024', () => {
    const rig = new MemoryRing();
    expect(rig.ring.reserve(1024)).toBe(0);
    expect(rig.writeIndex[0]).toBe(1024n);
    rig.ring.ringDoorbell(1024);
    expect(rig.doorbells).toEqual([1024]);
  });

  it('row 2: Read_Index 1, Write_Index 1024: one more gets index 1024, slot 0', () => {
    const rig = new MemoryRing();
    rig.indexes = { read: 1, write: 1024 };
    expect(rig.ring.reserve(1)).toBe(1024);
    expect(rig.ring.slotWord(1024)).toBe(0);
    expect(rig.writeIndex[0]).toBe(1025n);
  });

  it.each([0, 1025, -1, 1.5, Number.NaN])('row 3: %s descriptors are an argument error (EINVAL), and nothing changes', (count) => {
    const rig = new MemoryRing();
    rig.indexes = { read: 5, write: 7 };
    expect(codeOf(() => rig.ring.reserve(count))).toBe('ERR_SDXI_ARGUMENT');
    expect(codeOf(() => rig.ring.tryReserve(count))).toBe('ERR_SDXI_ARGUMENT');
    expect(rig.writeIndex[0]).toBe(7n);
  });

  it('row 4: Read_Index ahead of Write_Index is a ring error (EIO; F-33)', () => {
    const rig = new MemoryRing();
    rig.indexes = { read: 1, write: 0 };
    expect(codeOf(() => rig.ring.reserve(1))).toBe('ERR_SDXI_RING');
    expect(rig.writeIndex[0]).toBe(0n);
  });

  it.each([
    ['row 5', 0, 1024, 1],
    ['row 6', 1024, 1025, 1024],
  ])('%s: Read_Index %i, Write_Index %i: no room for %i (EBUSY)', (_row, read, write, count) => {
    const rig = new MemoryRing();
    rig.indexes = { read, write };
    expect(codeOf(() => rig.ring.reserve(count))).toBe('ERR_SDXI_BUSY');
    expect(rig.ring.tryReserve(count)).toBe(-1);
    expect(rig.writeIndex[0]).toBe(BigInt(write));
  });

  it('row 7: an index beyond 2^53 is damaged memory, not arithmetic (S-103)', () => {
    const rig = new MemoryRing();
    rig.indexes = { read: 2n ** 64n - 1n, write: 2n ** 64n - 1n };
    expect(codeOf(() => rig.ring.reserve(1))).toBe('ERR_SDXI_RING');
  });
});

describe('ref §6.1: publishing', () => {
  it('a claim is visible before its descriptors are valid, and publishing changes vl alone', () => {
    const rig = new MemoryRing();
    const first = rig.ring.reserve(3);
    expect(rig.writeIndex[0]).toBe(3n);
    for (let i = 0; i < 3; i++) rig.ring.u32.fill(0x10 + i, rig.ring.slotWord(first + i), rig.ring.slotWord(first + i) + 16);
    const before = rig.slots.slice(0, 48);
    expect(rig.take()).toBeUndefined();
    rig.ring.publish(first, 3);
    before[0] |= 1;
    before[16] |= 1;
    before[32] |= 1;
    expect(rig.slots.slice(0, 48)).toEqual(before);
  });

  it('the low half of Write_Index wraps without ever showing a wrong index', () => {
    const rig = new MemoryRing();
    rig.indexes = { read: 2 ** 32 - 3, write: 2 ** 32 - 3 };
    expect(rig.ring.reserve(2)).toBe(2 ** 32 - 3);
    expect(rig.ring.reserve(5)).toBe(2 ** 32 - 1);
    expect(rig.writeIndex[0]).toBe(2n ** 32n + 4n);
    expect(rig.ring.readIndex).toBe(2 ** 32 - 3);
    expect(rig.ring.free).toBe(1024 - 7);
  });

  it.each([1024, 1025, 1536, 3000])(
    'three laps through a ring of %i with claimed but unwritten slots: nothing runs twice, none is lost',
    (entries) => {
      const rig = new MemoryRing(entries);
      const seen: number[] = [];
      const drain = () => {
        for (let taken = rig.take(); taken; taken = rig.take()) seen.push(taken[1]);
      };
      let number = 0;
      let produced = 0;
      while (produced < entries * 3) {
        // One claims and is slow to write; another publishes behind it.
        const slow = rig.ring.reserve(2);
        produce(rig, [number + 2, number + 3, number + 4]);
        drain();
        expect(seen.length).toBe(number);
        for (let i = 0; i < 2; i++) {
          const word = rig.ring.slotWord(slow + i);
          // What the last lap has left there is not valid any more.
          expect(rig.slots[word] & 1).toBe(0);
          encodeNop(rig.ring.u32, word, 0, NO_CSB);
          rig.ring.u32[word + 1] = number + i;
        }
        rig.ring.publish(slow, 2);
        drain();
        number += 5;
        produced += 5;
        expect(seen.length).toBe(number);
      }
      expect(seen).toEqual(Array.from({ length: number }, (_, i) => i));
    },
  );

  it('overwrite makes a valid NOP of an abandoned slot, with its completion block if asked', () => {
    const rig = new MemoryRing();
    const first = rig.ring.reserve(2);
    rig.ring.u32.fill(0xffffffff, 0, 32);
    rig.ring.overwrite(first, 'none');
    rig.ring.overwrite(first + 1, 'keep');
    expect([...rig.slots.slice(0, 16)]).toEqual([0x00010101, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    expect([...rig.slots.slice(16, 32)]).toEqual([0x00010105, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 1]);
  });

  it('an armed completion block is done when the function has decremented it, and shows er', () => {
    const rig = new MemoryRing();
    const word = rig.ring.blockWord(1025);
    expect(word).toBe(8);
    rig.blocks.fill(0xff);
    rig.ring.arm(word);
    expect(rig.ring.isDone(word)).toBe(false);
    rig.blocks[word] = 0;
    expect([rig.ring.isDone(word), rig.ring.hasFailed(word)]).toEqual([true, false]);
    rig.blocks[word + 2] = 0x80000000;
    expect(rig.ring.hasFailed(word)).toBe(true);
  });
});
