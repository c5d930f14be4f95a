// Bundles a fuzzer (test/fuzz) and runs it: Node 20 runs no TypeScript. `messages` as the first argument is that of vfio-user messages,
// otherwise it is that of functions. All other arguments go to it.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { rolldown } = await import('rolldown');
const [first, ...rest] = process.argv.slice(2);
const [entry, args] = first === 'messages' ? ['messages-main.ts', rest] : ['main.ts', process.argv.slice(2)];
// A server starts threads, which run what is built.
const built = {
  name: 'built server',
  /** @param {string} id */
  resolveId: (id) =>
    id.endsWith('/src/serve/index.js') ? { id: pathToFileURL(join(root, 'dist', 'serve', 'index.js')).href, external: true } : null,
};
// Inside the project, so that its packages are found.
const directory = mkdtempSync(join(root, 'node_modules', '.fuzz-'));
try {
  const file = join(directory, 'fuzz.mjs');
  const bundle = await rolldown({
    input: join(root, 'test', 'fuzz', entry),
    platform: 'node',
    external: [/^node:/, 'koffi'],
    plugins: [built],
  });
  await bundle.write({ file, format: 'esm', sourcemap: true });
  await bundle.close();
  const { status, signal } = spawnSync(process.execPath, ['--enable-source-maps', file, ...args], { stdio: 'inherit' });
  process.exitCode = signal ? 1 : (status ?? 1);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
