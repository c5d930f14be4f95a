import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Server, serve } from '../../src/serve/index.js';
import { bootGuest, type Guest } from '../../src/vm/index.js';
import { ServeProcess } from '../serve/processes.js';
import { COPYING, startCopying } from './guest-image.js';
import { ADDRESS, BAR0, must, until } from './guests.js';

let folder: string;
let server: Server;
let trace: string;
const log: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sdxi-function-test-'));
  trace = join(folder, 'trace');
  server = await serve({ socket: join(folder, 's'), config: { maxContext: 61 }, trace, onLog: (line) => log.push(line) });
});
afterAll(async () => {
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** What differs from one machine to the next: where firmware puts things. */
const stable = (lspci: string): string =>
  lspci
    .split('\n')
    .filter((line) => !line.startsWith('lspci:')) // there is no list of modules in the guest
    .map((line) => line.replace(/ at [0-9a-f]{8,16} /, ' at ADDRESS ').trimEnd())
    .join('\n')
    .trim();

/** Compares with a file of golden/. A new one is written once, to be looked at and committed; never by a machine that checks. */
function expectGolden(name: string, text: string): void {
  const path = new URL(`./golden/${name}`, import.meta.url);
  if (!existsSync(path) && process.env.CI === undefined) writeFileSync(path, `${text}\n`);
  expect(text).toBe(readFileSync(path, 'utf8').trimEnd());
}

const events = (): { event: string; register?: string }[] =>
  readFileSync(trace, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

describe('a stock kernel and the function on the root bus', () => {
  let guest: Guest;
  beforeAll(async () => {
    guest = await bootGuest({ sockets: server.sockets, reboot: true });
  });
  afterAll(() => guest?.close());

  const D = `/sys/bus/pci/devices/${ADDRESS}`;

  it('is enumerated by its class, with its BARs in place', async () => {
    expect(await must(guest, 'lspci -nn -d ::1201')).toContain('[1201]: Device [1234:5d71]');
    expect(await must(guest, `cat ${D}/class`)).toBe('0x120100\n');
    const bars = (await must(guest, `cat ${D}/resource`)).split('\n').map((line) => line.split(' ').map(BigInt));
    expect(bars.slice(0, 6).map(([start, end]) => (end === 0n ? 0 : Number(end - start + 1n)))).toEqual([
      0x80000, 0, 0x40000, 0, 0x10000, 0,
    ]);
  });

  it('golden lspci -vvv', async () => {
    expectGolden('lspci-root-bus.txt', stable(await must(guest, 'lspci -vvv -d ::1201 2>/dev/null')));
  });

  it('registers answer through BAR 0: MMIO_VERSION is 1.0', async () => {
    await must(guest, `setpci -d ::1201 COMMAND=6`);
    expect(await must(guest, `${BAR0} devmem $((bar0 + 0x210)) 64`)).toMatch(/^0x0*10000\n$/);
  });

  it('MSI-X: vectors, table and PBA as the driver finds them; enabled and masked by the control word', async () => {
    const text = await must(guest, 'lspci -vv -d ::1201 2>/dev/null');
    expect(text).toMatch(/MSI-X: Enable- Count=64 Masked-/);
    await must(guest, 'setpci -d ::1201 CAP_MSIX+2.W=c000');
    expect(await must(guest, 'lspci -vv -d ::1201 2>/dev/null')).toMatch(/MSI-X: Enable\+ Count=64 Masked\+/);
    await must(guest, 'setpci -d ::1201 CAP_MSIX+2.W=0');
  });

  it('S-46 S-107 function-level reset by the kernel leaves nothing of what was set', async () => {
    const l2 = `${BAR0} devmem $((bar0 + 0x10000)) 64`;
    await must(guest, `${l2} 0x12345000`);
    expect(await must(guest, l2)).toMatch(/12345000/i);
    const before = events().filter(({ event }) => event === 'flr').length;
    expect(await must(guest, `cat ${D}/reset_method`)).toContain('flr');
    await must(guest, `echo flr > ${D}/reset_method; echo 1 > ${D}/reset`);
    expect(events().filter(({ event }) => event === 'flr').length).toBeGreaterThan(before);
    // The kernel restores configuration space, as after every reset.
    await must(guest, 'setpci -d ::1201 COMMAND=6');
    expect(await must(guest, l2)).toMatch(/^0x0+\n$/);
  });

  it('system_reset: the same guest finds the same function again', async () => {
    await guest.systemReset();
    expect(await must(guest, 'lspci -nn -d ::1201')).toContain('[1201]: Device [1234:5d71]');
    expectGolden('lspci-root-bus.txt', stable(await must(guest, 'lspci -vvv -d ::1201 2>/dev/null')));
  });
});

describe('behind a PCI Express root port', () => {
  it('golden lspci -vvv', async () => {
    const guest = await bootGuest({ sockets: server.sockets, rootPort: true });
    try {
      expectGolden('lspci-root-port.txt', stable(await must(guest, 'lspci -vvv -d ::1201 2>/dev/null')));
    } finally {
      await guest.close();
    }
  });
});

/** The server has seen that a client is gone. */
const SEEN_MS = 1000;

describe('a QEMU that is killed', () => {
  /** Open files, mappings of memory files and resident memory of a process. */
  const footprint = (pid: number) => {
    const maps = readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n');
    const rss = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return {
      files: readdirSync(`/proc/${pid}/fd`).length,
      guests: maps.filter((line) => line.includes('/memfd:')).length,
      residentMiB: Number(rss?.[1]) / 1024,
    };
  };

  /** A guest has its function copy 16 GB, and is killed. @returns how many of 1,000 copies were done by then */
  async function killed(socket: string, meanwhile = () => {}): Promise<number> {
    const guest = await bootGuest({ sockets: [socket], ...COPYING });
    const done = await startCopying(guest);
    meanwhile();
    await guest.kill();
    await guest.close();
    return done;
  }

  it('five times in the middle of copies: the server has given everything back, and takes the next client', async () => {
    const own = await ServeProcess.start();
    const pid = own.child.pid ?? 0;
    try {
      await killed(own.socket); // buffers have their size now
      await pause(SEEN_MS);
      const before = footprint(pid);
      for (let round = 0; round < 5; round++) {
        expect(await killed(own.socket, () => expect(footprint(pid).guests).toBeGreaterThan(before.guests))).toBeLessThan(1000);
      }
      const last = await bootGuest({ sockets: [own.socket] });
      expect(await until(last, 'lspci -n -d ::1201', (text) => text.includes('1201'))).toContain('1234:5d71');
      await last.close();
      await pause(SEEN_MS);
      const after = footprint(pid);
      expect([after.files, after.guests]).toEqual([before.files, before.guests]);
      expect(after.residentMiB).toBeLessThan(before.residentMiB + 16);
    } finally {
      await own.stop();
    }
  });
});
