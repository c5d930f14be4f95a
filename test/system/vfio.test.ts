import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Server, serve } from '../../src/serve/index.js';
import { bootGuest, type Guest, type Outcome } from '../../src/vm/index.js';

/** Our driver in a guest, on the function of a served socket, through vfio-pci behind the guest's IOMMU. */

const MINUTES = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'sdxi-vfio-guest-'));
const log: string[] = [];
let server: Server;
let guest: Guest;
let address: string;
/** What became of opening the function before it was vfio-pci's, and of the commands that the error named. */
let unbound: Outcome;
let bound: Outcome;

const run = (command: string, timeoutMs = 2 * MINUTES): Promise<Outcome> => guest.run(command, { timeoutMs });

/** What a command has written as JSON. */
const json = async (command: string, timeoutMs?: number): Promise<Record<string, unknown>> => {
  const { output } = await run(`${command} 2>/tmp/errors || cat /tmp/errors`, timeoutMs);
  try {
    return JSON.parse(output) as Record<string, unknown>;
  } catch {
    throw new Error(`no JSON: ${output}`);
  }
};

beforeAll(async () => {
  const socket = join(folder, 'function');
  server = await serve({ socket, onLog: (line) => log.push(line) });
  guest = await bootGuest({
    sockets: [socket],
    iommu: 'intel',
    node: true,
    files: { 'opt/sdxi/vfio-guest.mjs': readFileSync(new URL('./vfio-guest.mjs', import.meta.url)) },
  });
  const { output } = await run('lspci -Dn -d ::1201');
  address = /^([0-9a-f:.]+) /m.exec(output)?.[1] ?? '';
  unbound = await run(`sdxi info vfio:${address}`);
  const commands = /as root: (.*drivers_probe)/.exec(unbound.output)?.[1] ?? 'false';
  // The guest has the modules already, and no modprobe.
  bound = await run(commands.replace('modprobe vfio-pci; ', ''));
}, 5 * MINUTES);

afterAll(async () => {
  await guest?.close();
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
}, MINUTES);

describe('a vfio: function in a guest', () => {
  it('that has no driver is listed with the commands that bind it, and they bind it', { timeout: 3 * MINUTES }, async () => {
    expect(unbound.code).not.toBe(0);
    expect(bound).toMatchObject({ code: 0, output: '' });
    const { output } = await run('NO_COLOR=1 sdxi list');
    expect(output).toMatch(new RegExp(`vfio:${address} .*driver vfio-pci, IOMMU group \\d+\\s*$`));
  });

  it('does what a function does: addresses, errors, interrupts, reset', { timeout: 3 * MINUTES }, async () => {
    const result = await json(`node /opt/sdxi/vfio-guest.mjs vfio:${address}`);
    const hole = { code: 'ERR_SDXI_TRANSLATION', step: 'DSC_BUF', subStep: 'ATF', address: 0x30_0000_0000 };
    expect(result).toMatchObject({
      details: { registers: 'mapped', doorbells: 'mapped', reset: 'function-level' },
      vectors: 66,
      secondOpening: { code: 'ERR_SDXI_BUSY' },
      toHole: { ...hole, operand: 1 },
      fromHole: { ...hole, operand: 0 },
      untouched: true,
      copied: true,
      tooHigh: { code: 'ERR_SDXI_MAPPING', hint: expect.stringContaining('0xfedfffff') },
      msi: { code: 'ERR_SDXI_MAPPING' },
      pasid: { code: 'ERR_SDXI_UNSUPPORTED' },
      stateAfterReset: 0,
      copiedAfterReset: true,
    });
    expect(result.interrupts).toBeGreaterThan(0);
  });

  it.each(['', '?mmio=call', '?arenaBytes=1048576'])(
    'sdxi test, 1,000 transfers, with "%s": no failure',
    { timeout: 4 * MINUTES },
    async (options) => {
      const report = await json(`sdxi test 'vfio:${address}${options}' --iterations 1000 --json`, 4 * MINUTES);
      expect(report).toMatchObject({ ok: true, tests: 1000, failures: 0 });
    },
  );

  it('huge pages: mapped as such', { timeout: 4 * MINUTES }, async () => {
    await run('echo 4 > /proc/sys/vm/nr_hugepages');
    const report = await json(`sdxi test 'vfio:${address}?hugepages=1' --iterations 100 --json`, 3 * MINUTES);
    expect(report).toMatchObject({ ok: true, tests: 100, failures: 0 });
  });

  it('sdxi conform is clean', { timeout: 9 * MINUTES }, async () => {
    const { code, output } = await run(`sdxi conform vfio:${address} --strict --tap --total-timeout ${8 * MINUTES}`, 8 * MINUTES);
    expect(output.split('\n').filter((line) => /^(not ok|Bail out)/.test(line))).toEqual([]);
    expect(output).toMatch(/^ok \d+ - /m);
    expect(code).toBe(0);
  });

  it('whose server is gone is lost: an error, and no hang', { timeout: 3 * MINUTES }, async () => {
    await guest.start(`sdxi test vfio:${address} --iterations 100000 --timeout 2000`, '/tmp/lost');
    await run('sleep 8');
    await server.close();
    const { output } = await run('for i in $(seq 60); do grep -q ERR_SDXI /tmp/lost && break; sleep 1; done; cat /tmp/lost');
    expect(output).toContain('ERR_SDXI_BUS_LOST');
  });
});
