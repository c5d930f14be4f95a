import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = new URL('../../', import.meta.url).pathname;
const readme = readFileSync(join(root, 'README.md'), 'utf8');

/** Programs of the README: each js block, with the output block that follows it, if one does. */
const programsOf = (text: string) =>
  [...text.matchAll(/```js\n([\s\S]*?)```(?:\s*```text\n([\s\S]*?)```)?/g)].map(([, code, output]) => ({ code, output }));
const programs = programsOf(readme);
const groups = programsOf(readFileSync(join(root, 'docs', 'groups.md'), 'utf8'));

describe('README', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(root, 'dist', 'readme-')); // inside the package, so that `import 'sdxi'` finds it
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('has a first program that copies between two Buffers', () => {
    expect(programs[0].code).toMatch(/import \{ open \} from 'sdxi'/);
    expect(programs[0].code).toMatch(/mover\.copy\(/);
  });

  it.each([
    ...programs.map((program, i) => [`program ${i + 1}`, program] as const),
    ...groups.map((program, i) => [`docs/groups.md, program ${i + 1}`, program] as const),
  ])('%s runs as printed', (name, { code, output }) => {
    const file = join(folder, `${name.replaceAll(/\W/g, '-')}.mjs`);
    writeFileSync(file, code);
    const printed = execFileSync(process.execPath, [file], { encoding: 'utf8', timeout: 15_000 });
    if (output !== undefined) expect(printed.trim()).toBe(output.trim());
  });
});
