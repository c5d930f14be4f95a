// Bundles the fuzzer (test/fuzz) and runs it: Node 20 runs no TypeScript. Arguments go to it.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { rolldown } = await import('rolldown');
// Inside the project, so that its packages are found.
const directory = mkdtempSync(join(root, 'node_modules', '.fuzz-'));
try {
  const file = join(directory, 'fuzz.mjs');
  const bundle = await rolldown({ input: join(root, 'test', 'fuzz', 'main.ts'), platform: 'node', external: [/^node:/, 'koffi'] });
  await bundle.write({ file, format: 'esm', sourcemap: true });
  await bundle.close();
  const { status, signal } = spawnSync(process.execPath, ['--enable-source-maps', file, ...process.argv.slice(2)], { stdio: 'inherit' });
  process.exitCode = signal ? 1 : (status ?? 1);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
