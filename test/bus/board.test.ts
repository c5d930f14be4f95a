/** What engine threads of one fabric show each other. Ref §7.1 item 3. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Board, MEMBERS_MAX, type Notice } from '../../src/fabric/board.js';

const notices: fc.Arbitrary<Notice> = fc.record({
  sfunc: fc.integer({ min: 1, max: 0xffff }),
  groupId: fc.integer({ min: 0, max: 0xffffffff }),
  state: fc.integer({ min: 0, max: 5 }),
  epoch: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
  rkeysUsable: fc.boolean(),
  rkeyTable: fc.integer({ min: 0, max: 2 ** 41 - 1 }).map((page) => page * 4096),
  rkeyCount: fc.integer({ min: 256, max: 65_536 }),
  functionPasid: fc.integer({ min: -1, max: 0xfffff }),
  probing: fc.boolean(),
});

describe('the board of a fabric', () => {
  it('gives each member back what it has shown, and nobody else', () => {
    fc.assert(
      fc.property(fc.array(notices, { minLength: MEMBERS_MAX, maxLength: MEMBERS_MAX }), (all) => {
        const board = new Board();
        all.forEach((notice, member) => {
          board.publish(member, notice);
        });
        const other = new Board(board.buffer);
        all.forEach((notice, member) => {
          const seen = { ...notice, sfunc: 0, rkeyTable: 1 };
          other.read(member, seen);
          expect(seen).toEqual(notice);
          expect([other.state(member), other.epoch(member)]).toEqual([notice.state, notice.epoch]);
        });
      }),
      { numRuns: 20 },
    );
  });

  it('tells who is in a step, and a new member starts outside', () => {
    const board = new Board();
    board.turnStep(3);
    expect([board.step(2) & 1, board.step(3) & 1]).toEqual([0, 1]);
    board.clear(3, 9, 7);
    expect(board.step(3) & 1).toBe(0);
    expect(board.state(3)).toBe(0);
  });
});
