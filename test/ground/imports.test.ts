import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

/** The floors of the house, top first: a file imports from its own floor and from those below it. docs/architecture.md draws them. */
const FLOORS = [
  'index',
  'cli',
  'vm',
  'conform',
  'offload',
  'mover',
  'driver',
  'bus',
  'serve',
  'fabric',
  'fault',
  'function',
  'pci',
  'observe',
  'vfio-user',
  'memory',
  'prng',
  'spec',
  'native',
  'errors',
];

/** Floors that may not be imported from everywhere above: `only` lists who may, as path prefixes under src/. */
const RESERVED: { floor: string; only: string[]; why: string }[] = [
  {
    floor: 'function',
    only: ['index', 'bus/embedded', 'serve', 'fabric', 'fault'],
    why: 'the driver knows a function only through the bus',
  },
  { floor: 'pci', only: ['serve'], why: 'whoever puts a function on a PCI bus gives it its shell' },
  { floor: 'fault', only: ['index', 'cli', 'bus/embedded', 'serve'], why: 'who has a plan gives it to its bus' },
  {
    floor: 'native',
    only: ['cli', 'vm', 'mover', 'driver', 'bus', 'serve', 'vfio-user', 'memory'],
    why: 'the function is pure and gets memory through its ports',
  },
  { floor: 'serve', only: ['index', 'cli', 'vm'], why: 'a served function is reached over its socket' },
  { floor: 'bus', only: ['index', 'cli', 'conform', 'offload', 'mover', 'driver'], why: 'a bus serves those above it' },
  { floor: 'offload', only: ['cli'], why: 'the suite drives a function itself' },
  { floor: 'mover', only: ['index', 'cli', 'offload'], why: 'the suite drives a function itself' },
  { floor: 'driver', only: ['index', 'cli', 'offload', 'mover'], why: 'the suite drives a function itself' },
  { floor: 'vm', only: ['cli'], why: 'a virtual machine is a thing for people and tests' },
  { floor: 'vm', only: ['cli'], why: 'a virtual machine is a thing for people and tests' },
  { floor: 'cli', only: [], why: 'the commands are the top' },
];

/** Packages, and the only floors that may import them. Type imports count. */
const PACKAGES: Record<string, string[]> = {
  koffi: ['native'],
  commander: ['cli'],
  'cli-table3': ['cli'],
  'cli-progress': ['cli'],
  picocolors: ['cli'],
};

const src = fileURLToPath(new URL('../../src', import.meta.url));

/** `memory/window.ts` → `memory`; `errors.ts` → `errors`. */
const floorOf = (file: string) => (file.split('/')[0] ?? '').replace(/\.ts$/, '');

/** Everything a source names as a module: import, export from, import(), require(), and worker entries as new URL('./x.js', import.meta.url). */
function specifiers(source: string): string[] {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const patterns = [
    /\b(?:import|export)\b[^'";]*?\bfrom\s*(['"])(.+?)\1/g,
    /\bimport\s*(['"])(.+?)\1/g,
    /\b(?:import|require)\s*\(\s*(['"])(.+?)\1/g,
    /\bnew URL\(\s*(['"])(\.[^'"]*\.js)\1\s*,\s*import\.meta\.url/g,
  ];
  return patterns.flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[2] as string));
}

/** What is wrong with the imports of one file; `file` is relative to src/. */
function violations(file: string, source: string): string[] {
  const from = floorOf(file);
  if (!FLOORS.includes(from)) return [`${file}: src/${from} has no floor yet, add it to FLOORS`];
  const wrong: string[] = [];
  for (const name of specifiers(source)) {
    if (name.startsWith('node:')) continue;
    if (!name.startsWith('.')) {
      if (!PACKAGES[name]?.includes(from)) wrong.push(`${file} imports the package ${name}`);
      continue;
    }
    const target = posix.normalize(posix.join(posix.dirname(file), name)).replace(/\.js$/, '.ts');
    const to = floorOf(target);
    if (to === from) continue;
    const rule = RESERVED.find((entry) => entry.floor === to);
    if (!FLOORS.includes(to)) wrong.push(`${file} imports ${target}, which has no floor`);
    else if (FLOORS.indexOf(to) < FLOORS.indexOf(from)) wrong.push(`${file} imports ${target}, which is above it`);
    else if (rule && !rule.only.some((prefix) => file.startsWith(prefix))) wrong.push(`${file} imports ${target}: ${rule.why}`);
  }
  return wrong;
}

const files = readdirSync(src, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
  .map((entry) => relative(src, join(entry.parentPath, entry.name)).split(sep).join('/'))
  .sort();

describe('imports run down the plan', () => {
  it('every import of src/ follows the arrows', () => {
    expect(files.length).toBeGreaterThan(0);
    expect(files.flatMap((file) => violations(file, readFileSync(join(src, file), 'utf8')))).toEqual([]);
  });

  it.each([
    ['driver/ring.ts', "import { SdxiFunction } from '../function/function.js';", 'through the bus'],
    ['driver/ring.ts', "import type {\n  SdxiFunction,\n} from '../function/index.js';", 'through the bus'],
    ['function/engine.ts', "import { map } from '../native/libc.js';", 'through its ports'],
    ['function/engine.ts', "const bus = await import('../bus/bus.js');", 'above it'],
    ['bus/vfio.ts', "export * from '../function/index.js';", 'through the bus'],
    ['bus/bus.ts', "new Worker(new URL('../mover/worker.js', import.meta.url));", 'above it'],
    ['spec/u64.ts', "import '../memory/window.js';", 'above it'],
    ['pci/msix.ts', "import { SdxiFunction } from '../function/index.js';", 'above it'],
    ['function/engine.ts', "import { PciFunction } from '../pci/index.js';", 'gives it its shell'],
    ['conform/rig.ts', "import { Ring } from '../driver/ring.js';", 'the suite drives'],
    ['memory/window.ts', "import koffi from 'koffi';", 'package koffi'],
    ['web/page.ts', '', 'no floor yet'],
  ])('a wrong import is caught: %s, %s', (file, source, message) => {
    expect(violations(file, source)).toEqual([expect.stringContaining(message)]);
  });

  it.each([
    ['bus/embedded.ts', "import { SdxiFunction } from '../function/index.js';"],
    ['bus/embedded/worker.ts', "import { SdxiFunction } from '../../function/index.js';"],
    ['driver/ring.ts', "import { encodeCopy } from '../spec/index.js';\nimport { x } from './keys.js';"],
    ['memory/window.ts', "// import { y } from '../cli/main.js';\nimport { z } from '../errors.js';"],
  ])('an import down the plan passes: %s', (file, source) => {
    expect(violations(file, source)).toEqual([]);
  });

  it('every relative import names a file that exists', () => {
    const missing = files.flatMap((file) =>
      specifiers(readFileSync(join(src, file), 'utf8'))
        .filter((name) => name.startsWith('.'))
        .map((name) => relative(src, resolve(src, dirname(file), name.replace(/\.js$/, '.ts'))))
        .filter((target) => !files.includes(target.split(sep).join('/')))
        .map((target) => `${file}: ${target}`),
    );
    expect(missing).toEqual([]);
  });
});
