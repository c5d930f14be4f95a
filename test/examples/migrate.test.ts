import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';

const root = new URL('../../', import.meta.url).pathname;

it('ref §10 examples/migrate.js moves a loaded function to another process, and nothing is lost', { timeout: 90_000 }, () => {
  const printed = execFileSync(process.execPath, ['examples/migrate.js'], { cwd: root, encoding: 'utf8', timeout: 80_000 });
  const number = (pattern: RegExp) => Number(pattern.exec(printed)?.[1]);
  const pending = number(/; (\d+) were not executed yet/);
  expect(pending).toBeGreaterThan(0);
  expect(number(/executed {2,}(\d+) descriptors, none of them twice/)).toBe(pending);
  expect(number(/stopped after {2,}(\d+)/) + pending).toBe(number(/with (\d+) descriptors/));
  expect(number(/source \(process (\d+)\)/)).not.toBe(number(/target \(process (\d+)\)/));
  expect(printed.trim()).toMatch(/nothing was lost$/);
});
