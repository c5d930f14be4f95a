/** docs/sdxi-1.0.md is the reference that the code cites: it holds what the code holds, and every citation can be looked up in it. */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { fromHex, OPERATIONS, REGISTERS } from '../../src/spec/index.js';

const root = new URL('../../', import.meta.url);
const reference = readFileSync(new URL('docs/sdxi-1.0.md', root), 'utf8');

/** The text of a section, without its heading. */
function section(number: string): string {
  const start = reference.search(new RegExp(`^#+ ${number.replace('.', '\\.')}[. ]`, 'm'));
  expect(start, `section ${number}`).toBeGreaterThan(0);
  const rest = reference.slice(reference.indexOf('\n', start));
  const end = rest.search(/^#/m);
  return end < 0 ? rest : rest.slice(0, end);
}

function rows(text: string): string[][] {
  const lines = text.split('\n').filter((line) => line.startsWith('|'));
  return lines.map((line) => line.split('|').slice(1, -1)).map((cells) => cells.map((cell) => cell.trim()));
}

describe('docs/sdxi-1.0.md', () => {
  it.each([
    ['S', 129],
    ['O', 30],
    ['F', 50],
  ])('defines every %s-number up to %d, once', (letter, last) => {
    const defined = [...reference.matchAll(new RegExp(`^\\| ${letter}-(\\d+) \\|`, 'gm'))].map((m) => Number(m[1]));
    expect(defined.sort((a, b) => a - b)).toEqual(Array.from({ length: last }, (_, i) => i + 1));
  });

  it('ref §5.2 names the same operations as OPERATIONS', () => {
    let type = 0;
    const named: string[] = [];
    for (const [typeCell, , subtype, operation] of rows(section('5.2'))) {
      if (/^0x/.test(typeCell)) type = Number(typeCell);
      if (/^0x/.test(subtype) && !operation.startsWith('–')) named.push(`${type} ${Number(subtype)} ${operation}`);
    }
    expect(OPERATIONS.map((op) => `${op.type} ${op.subtype} ${op.name}`)).toEqual(named);
  });

  it('ref §2.2 lists the same registers as REGISTERS', () => {
    const listed = rows(section('2.2')).filter(([, name]) => name.startsWith('MMIO_'));
    expect(REGISTERS.map((r) => [r.offset, `MMIO_${r.name}`, r.access])).toEqual(listed.map((r) => [Number(r[0]), r[1], r[2]]));
  });

  it('ref §13.1 holds 38 vectors of 64 bytes', () => {
    const vectors = [...section('13.1').matchAll(/^G\d+ +([0-9a-f]+)$/gm)];
    expect(vectors.length).toBe(38);
    for (const [, hex] of vectors) expect(fromHex(hex).length).toBe(64);
  });

  it('has every section and number that sources and tests cite', () => {
    const headings = new Set([...reference.matchAll(/^#+ (\d+(?:\.\d+)*)[. ]/gm)].map((m) => m[1]));
    const numbers = new Set([...reference.matchAll(/^\| ([SOFG]-?\d+) \|/gm)].map((m) => m[1]));
    const unknown: string[] = [];
    for (const folder of ['src', 'test']) {
      for (const name of readdirSync(new URL(`${folder}/`, root), { recursive: true, encoding: 'utf8' })) {
        if (!name.endsWith('.ts')) continue;
        const text = readFileSync(new URL(`${folder}/${name}`, root), 'utf8');
        for (const [, list] of text.matchAll(/\bref ((?:§\d+(?:\.\d+)*(?:, )?)+)/g)) {
          for (const [, cited] of list.matchAll(/§(\d+(?:\.\d+)*)/g))
            if (!headings.has(cited)) unknown.push(`${folder}/${name}: ref §${cited}`);
        }
        for (const [cited] of text.matchAll(/\b[SOF]-\d+\b/g)) if (!numbers.has(cited)) unknown.push(`${folder}/${name}: ${cited}`);
      }
    }
    expect(unknown).toEqual([]);
  });
});
