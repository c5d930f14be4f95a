import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FaultPlan } from '../../src/fault/index.js';
import { parseFunctionOptions } from '../../src/function/config.js';
import { TRACE_EVENTS } from '../../src/observe/trace-json.js';
import { here } from '../cli/run.js';

const read = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');
const documents = ['write-a-driver.md', 'virtual-machines.md', 'vfio.md'] as const;

/** `sdxi command --flags …` in code, as far as the line goes. */
const commandsOf = (text: string) =>
  [...text.matchAll(/(?:npx )?sdxi ([a-z]+)((?: [^\n`#]*)?)/g)].map(([, command, rest]) => ({
    command,
    flags: [...rest.matchAll(/(?<= )--([a-z][a-z-]*)/g)].map(([, flag]) => flag),
  }));

describe.each(documents)('docs/%s', (name) => {
  const text = read(name);

  it('names commands and flags that exist', async () => {
    const help = new Map<string, string>();
    for (const { command, flags } of commandsOf(text)) {
      if (!help.has(command)) help.set(command, (await here(['help', command])).stdout);
      for (const flag of flags) expect(help.get(command), `sdxi ${command}`).toContain(`--${flag}`);
    }
    expect(help.size).toBeGreaterThan(0);
  });
});

describe('docs/write-a-driver.md', () => {
  const text = read('write-a-driver.md');

  it('plans faults and sets options that there are', () => {
    const plans = [...text.matchAll(/[`' ](F-\d+(?::[a-z0-9=,]+)?(?:;F-[^`' ]*)?)[`' ]/g)].map(([, plan]) => plan);
    expect(plans.length).toBeGreaterThan(10);
    for (const plan of plans)
      if (plan.includes(':') || !/F-(20|4[0-2])\b/.test(plan)) expect(() => new FaultPlan(plan), plan).not.toThrow();
    const options = [...text.matchAll(/--option (\w+=\w+)/g)].map(([, option]) => option);
    expect(options.length).toBeGreaterThan(3);
    for (const option of options) expect(() => parseFunctionOptions(new URLSearchParams(option)), option).not.toThrow();
  });

  it('quotes lines that a trace can have', () => {
    const lines = [...text.matchAll(/```json\n(.*)\n```/g)].map(([, line]) => JSON.parse(line) as { event: (typeof TRACE_EVENTS)[number] });
    expect(lines.length).toBe(2);
    for (const { event } of lines) expect(TRACE_EVENTS).toContain(event);
  });
});
