import { describe, expect, it } from 'vitest';
import { Access, AddressSpace, AddressSpaces, type Mapping, type MappingWatch } from '../../src/memory/address-space.js';
import { Window } from '../../src/memory/window.js';

/** Says what it was asked, and yes or no. */
function recorder(name: string, asked: string[], answer = true): MappingWatch {
  const note =
    (what: string) =>
    (_mapping: Mapping, address: number, length: number, access?: number): boolean => {
      asked.push(`${name} ${what} ${address} ${length}${access === undefined ? '' : ` ${access}`}`);
      return answer;
    };
  return { access: note('access'), read: note('read'), wrote: note('wrote') };
}

const window = () => new Window(new ArrayBuffer(4096));

describe('watches of mappings', () => {
  it('asks after the mapping itself has agreed, and never before', () => {
    const asked: string[] = [];
    const space = new AddressSpace();
    space.map(0x1000, 64, Access.READ, window(), 0, recorder('own', asked));
    expect(space.find(0x1000, 16, Access.WRITE)).toBeUndefined();
    expect(space.find(0x1038, 16, Access.READ)).toBeUndefined();
    expect(asked).toEqual([]);
    expect(space.find(0x1008, 16, Access.READ)?.start).toBe(0x1000);
    expect(asked).toEqual([`own access ${0x1008} 16 1`]);
  });

  it('a refusal counts as refused, not as unmapped', () => {
    const space = new AddressSpace();
    const mapping = space.map(0x1000, 64, Access.READ_WRITE, window(), 0, recorder('own', [], false));
    expect(space.find(0x1000, 16, Access.READ)).toBeUndefined();
    expect(mapping.covers(0x1000, 16, Access.READ)).toBe(false);
    expect([mapping.fetch(0x1000, 1), mapping.sent(0x1000, 1)]).toEqual([false, false]);
    expect(space.refusal(0x1000, 16)).toBe('refused');
  });

  it('a test for data asks nobody', () => {
    const asked: string[] = [];
    const mapping = new AddressSpace().map(0x1000, 64, Access.READ, window(), 0, recorder('own', asked));
    expect([mapping.holds(0x103f, Access.READ), mapping.holds(0x1040, Access.READ), mapping.holds(0x1000, Access.WRITE)]).toEqual([
      true,
      false,
      false,
    ]);
    expect(asked).toEqual([]);
  });

  it('one of the whole address space stands beside those of mappings, of those to come as well, until it is taken away', () => {
    const asked: string[] = [];
    const spaces = new AddressSpaces();
    const own = spaces.own.map(0x1000, 64, Access.READ_WRITE, window(), 0, recorder('own', asked));
    const plain = spaces.own.map(0x2000, 64, Access.READ_WRITE, window());
    spaces.setWatch(recorder('all', asked));
    const later = spaces.bind(7).map(0x3000, 64, Access.READ_WRITE, window());
    for (const mapping of [own, plain, later]) mapping.sent(mapping.start, 8);
    expect(asked.splice(0)).toEqual([`own wrote ${0x1000} 8`, `all wrote ${0x1000} 8`, `all wrote ${0x2000} 8`, `all wrote ${0x3000} 8`]);
    own.covers(0x1000, 8, Access.WRITE);
    own.fetch(0x1000, 8);
    expect(asked.splice(0)).toEqual([
      `own access ${0x1000} 8 2`,
      `all access ${0x1000} 8 2`,
      `own read ${0x1000} 8`,
      `all read ${0x1000} 8`,
    ]);
    spaces.setWatch(undefined);
    for (const mapping of [own, plain, later]) mapping.sent(mapping.start, 8);
    expect(asked).toEqual([`own wrote ${0x1000} 8`]);
    expect([plain.watch, later.watch]).toEqual([undefined, undefined]);
  });

  it('of two that stand together, both hear of a write that did not arrive', () => {
    const asked: string[] = [];
    const space = new AddressSpace();
    space.setWatch(recorder('all', asked));
    const mapping = space.map(0x1000, 64, Access.READ_WRITE, window(), 0, recorder('own', asked, false));
    expect([mapping.sent(0x1000, 8), mapping.fetch(0x1000, 8), mapping.covers(0x1000, 8, Access.READ)]).toEqual([false, false, false]);
    expect(asked).toEqual([`own wrote ${0x1000} 8`, `all wrote ${0x1000} 8`, `own read ${0x1000} 8`, `own access ${0x1000} 8 1`]);
  });

  it('a mapping that is taken away asks nobody any more', () => {
    const asked: string[] = [];
    const space = new AddressSpace();
    const mapping = space.map(0x1000, 64, Access.READ_WRITE, window(), 0, recorder('own', asked));
    space.unmap(0x1000, 64);
    expect([mapping.covers(0x1000, 8, Access.READ), mapping.holds(0x1000, Access.READ), mapping.watch]).toEqual([false, false, undefined]);
    expect(asked).toEqual([]);
  });
});
