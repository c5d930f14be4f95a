/** The suite can fail: functions with one wrong thing each. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { engineEntry } from '../../src/bus/index.js';
import { CHECKS, MUTANTS } from '../../src/conform/index.js';
import { mutate } from '../../src/conform/self-test.js';

describe('mutants of the function', () => {
  const engine = readFileSync(engineEntry(), 'utf8');

  it('there are at least 60, each with a name of its own', () => {
    expect(MUTANTS.length).toBeGreaterThanOrEqual(60);
    expect(new Set(MUTANTS.map(({ id }) => id)).size).toBe(MUTANTS.length);
  });

  it.each(MUTANTS.map((mutant) => [mutant.id, mutant] as const))('%s fits the engine as it is built, and changes it', (_id, mutant) => {
    expect(mutate(engine, mutant)).not.toBe(engine);
    const known = new Set(CHECKS.map(({ id }) => id));
    expect(mutant.likely.filter((id) => !known.has(id))).toEqual([]);
  });

  it('one whose place is not there, or there twice, is refused with its name', () => {
    for (const find of ['no such text', 'const ']) {
      expect(() => mutate(engine, { id: 'a.b', find, replace: '' })).toThrow(
        /mutant a\.b does not fit the engine: its place is there \d+ times/,
      );
    }
  });
});
