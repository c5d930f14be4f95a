/** The fault catalogue and its plans: ref §12. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openBus } from '../../src/bus/index.js';
import { FAULTS, FaultPlan, PARAMETERS, parseFaults } from '../../src/fault/index.js';
import { sdxi, sdxiJson } from '../cli/run.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

describe('the catalogue', () => {
  it('has F-1 … F-50, each with what it does, exposes and is for, and a reason where it cannot be provoked', () => {
    expect(FAULTS.map(({ id }) => id)).toEqual(Array.from({ length: 50 }, (_, i) => `F-${i + 1}`));
    for (const { provokable, reason, does, exposes, use, title, parameters, config } of FAULTS) {
      expect(reason === '').toBe(provokable);
      for (const text of [title, does, exposes, use]) expect(text.length).toBeGreaterThan(5);
      for (const name of parameters) expect(PARAMETERS).toHaveProperty(name);
      if (config) expect(parameters).toEqual([]);
    }
  });

  it('each fault that can be provoked has its tests: that it happens, and that our driver survives it', () => {
    const here = fileURLToPath(new URL('.', import.meta.url));
    const of = (file: string) => readFileSync(join(here, file), 'utf8');
    expect(readdirSync(here)).toEqual(expect.arrayContaining(['happens.test.ts', 'survival.test.ts']));
    for (const { id, provokable } of FAULTS) {
      if (!provokable) continue;
      expect([id, new RegExp(`it\\('${id} `).test(of('happens.test.ts'))]).toEqual([id, true]);
      expect([id, new RegExp(`\\['${id}[:']`).test(of('survival.test.ts'))]).toEqual([id, true]);
    }
  });

  it('docs/faults.md is what it says', () => {
    execFileSync(process.execPath, [join(ROOT, 'scripts', 'fault-docs.mjs'), '--check'], { stdio: 'pipe' });
  });
});

describe('plans', () => {
  it('F-2:every=10,context=3;F-44 is two faults', () => {
    expect(parseFaults(' F-2:every=10,context=3 ; f-44 ;').map(({ fault, values }) => [fault.id, values])).toEqual([
      ['F-2', { every: 10, context: 3 }],
      ['F-44', { value: 0 }],
    ]);
    expect(parseFaults('')).toEqual([]);
  });

  it.each([
    [`F-${0}`, '" is no fault', 'F-1 … F-50'],
    ['F-2;oops', '"oops" is no fault', 'sdxi fault --list'],
    ['F-6', 'F-6 cannot be provoked', 'sdxi fault --list'],
    ['F-2:evry=3', '"evry=3" of F-2 is no parameter', 'every, after, count, context'],
    ['F-2:every', '"every" of F-2 has no valid value', 'whole number'],
    ['F-2:every=0', '"every=0" of F-2', 'from 1'],
    ['F-2:every=1e3', '"every=1e3" of F-2', 'whole number'],
    ['F-2:every=1=2', '"every=1=2" of F-2', 'whole number'],
    ['F-2:every=-1', '"every=-1" of F-2', 'whole number'],
    ['F-2:every=99999999999', '"every=99999999999" of F-2', 'whole number'],
    ['F-2:every=1,every=2', '"every=2" of F-2 is there twice', 'once'],
    ['F-2:toString=1', '"toString=1" of F-2 is no parameter', 'every'],
    ['F-7:every=2', '"every=2" of F-7 is no parameter', 'choice of the function'],
  ])('%s is refused: place and choices are named', (text, place, hint) => {
    expect(() => parseFaults(text)).toThrow(
      expect.objectContaining({ code: 'ERR_SDXI_ARGUMENT', message: expect.stringContaining(place) }),
    );
    expect(() => parseFaults(text)).toThrow(expect.objectContaining({ hint: expect.stringContaining(hint) }));
  });

  it('every, after, count and context say when', () => {
    const plan = new FaultPlan('F-21:after=2,every=3,count=2,context=1');
    const at = Array.from({ length: 15 }, (_, n) => (plan.completion(1) ? n : -1)).filter((n) => n >= 0);
    expect(at).toEqual([4, 7]);
    expect(plan.completion(2)).toBeUndefined();
  });

  it.each([
    ['faults=F-7&clearValid=on', 'clearValid cannot be on under the faults F-7'],
    ['faults=F-39;F-4', 'F-4 cannot be had together with reorder=on'],
    ['faults=F-13&reorder=on', 'F-13 cannot be had together with reorder=on'],
  ])('embedded:?%s contradicts itself and is refused', async (query, message) => {
    for (const inline of ['', '&inline=1']) await expect(openBus(`embedded:?${query}${inline}`)).rejects.toThrow(message);
  });

  it('a plan that the function cannot keep is refused while it runs, and the one before stays', async () => {
    for (const inline of ['', '&inline=1']) {
      const bus = await openBus(`embedded:?reorder=on&faults=F-34${inline}`);
      expect(() => (bus as unknown as { setFaults(text: string): void }).setFaults('F-4')).toThrow('reorder=on');
      expect(bus.readRegister(0x100) & 7n).toBe(6n);
      await bus.close();
    }
  });

  it.each(['&inline=1', ''])('a bus takes a plan in its URI and switches it while it runs (embedded:?…%s)', async (inline) => {
    const bus = await openBus(`embedded:?faults=F-34:value=7${inline}`);
    const switchable = bus as unknown as { setFaults(text: string): void };
    try {
      expect(bus.readRegister(0x100) & 7n).toBe(7n);
      switchable.setFaults('');
      expect(bus.readRegister(0x100) & 7n).toBe(0n);
      expect(() => switchable.setFaults('F-34;F-x')).toThrow('"F-x" is no fault');
      expect(() => switchable.setFaults('F-34;F-7')).toThrow('F-7 cannot be put in force while the function is open');
      expect(bus.readRegister(0x100) & 7n).toBe(0n);
      switchable.setFaults('F-49');
      expect(bus.readRegister(0x100)).toBe(2n ** 64n - 1n);
    } finally {
      await bus.close();
    }
    await expect(openBus(`embedded:?faults=F-x${inline}`)).rejects.toThrow('"F-x" is no fault');
  });
});

describe('sdxi fault', () => {
  it('--list --json: id, title, provokable, reason of F-1 … F-50', async () => {
    const { code, json } = await sdxiJson<Record<string, unknown>[]>(['fault', '--list']);
    expect(code).toBe(0);
    expect(json).toHaveLength(50);
    for (const entry of json) expect(Object.keys(entry)).toEqual(['id', 'title', 'provokable', 'reason']);
  });

  it('one in full; an unknown one is refused with the choices', async () => {
    const { json } = await sdxiJson<{ id: string; does: string }>(['fault', 'f-2']);
    expect(json).toMatchObject({ id: 'F-2', provokable: true });
    const { code, stderr } = await sdxi(['fault', 'F-x']);
    expect(code).toBe(2);
    expect(stderr).toContain('F-1 … F-50');
  });
});
