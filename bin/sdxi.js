#!/usr/bin/env node
// The command `sdxi`. In a clone that was not set up yet (the lock file tells a clone from an installed package) it sets up first.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (/** @type {string} */ path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const clone = existsSync(here('package-lock.json'));

// dist/.sources is written last: a build that failed half-way does not count.
if (clone && !(existsSync(here('dist/.sources')) && existsSync(here('node_modules/commander')))) {
  // stdout stays clean for --json; setup.mjs says on stderr what failed and how to do it by hand.
  const { status } = spawnSync(process.execPath, [here('scripts/setup.mjs')], { stdio: ['ignore', 2, 2] });
  if (status !== 0) process.exit(1);
}

const entry = new URL('../dist/cli/main.js', import.meta.url);
const { main } = await import(entry.href);
process.exitCode = await main(process.argv.slice(2));
