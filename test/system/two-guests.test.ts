import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SdxiDriver } from '../../src/driver/index.js';
import { type Server, serve } from '../../src/serve/index.js';
import type { Guest } from '../../src/vm/index.js';
import { RawClient } from '../serve/raw.js';
import { RawBus } from '../serve/raw-bus.js';
import { bootDriverGuest, Grant, Member, sumOf } from './guests.js';

const BYTES = 1 << 20;
/** Where `sdxi grant` puts its memory. */
const SHARED = 0x2_0000_0000;
const HELD_MS = 8000;
const A = 1;
const B = 2;
const C = 3;

let folder: string;
let server: Server;
let a: Guest;
let b: Guest;
let trace: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sdxi-two-'));
  trace = join(folder, 'trace');
  server = await serve({
    socket: join(folder, 's'),
    functions: 3,
    config: { groupId: 7, sfunc: A, maxContext: 7 },
    // Descriptors of context 2 wait before they execute.
    faults: `F-4:context=2,ms=${HELD_MS}`,
    trace,
  });
  [a, b] = await Promise.all([0, 1].map((i) => bootDriverGuest(server.sockets[i], Member.files)));
});

afterAll(async () => {
  await a?.close();
  await b?.close();
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

const REFUSED = { ok: false, step: 'FN_RKEY', subStep: 'DVF' };

describe('two guests whose functions are in one group', () => {
  it("A's function copies into B's memory under B's RKey, and not without it", async () => {
    const member = await Member.start(a, 0xaa);
    const to = { sfunc: B, rkey: 0, address: SHARED };
    expect(await member.copy({ own: true }, to)).toMatchObject(REFUSED);
    const grant = await Grant.start(b, SHARED, { to: C, fill: 0xbb });
    expect(await member.copy({ own: true }, { ...to, rkey: grant.rkey })).toMatchObject(REFUSED); // it is C's
    expect(await grant.end()).toBe(sumOf(0xbb, BYTES));
    const consent = await Grant.start(b, SHARED, { to: A, fill: 0xbb });
    expect(await member.copy({ own: true }, { ...to, rkey: consent.rkey })).toEqual({ ok: true });
    expect(await consent.end()).toBe(sumOf(0xaa, BYTES));
    expect(await member.copy({ own: true }, to)).toMatchObject(REFUSED);
    await member.close();
  });

  it("B's function reads A's memory under A's RKey; a third function needs both; a copy runs on while both QEMUs stand still", async () => {
    const member = await Member.start(b, 0xbb);
    const grant = await Grant.start(a, SHARED, { to: B, fill: 0xaa });
    const from = { sfunc: A, rkey: grant.rkey, address: SHARED };
    expect(await member.copy(from, { own: true })).toEqual({ ok: true });
    expect(await member.sum()).toBe(sumOf(0xaa, BYTES));

    // Held back before it executes; meanwhile neither QEMU gets a processor.
    await member.send({ do: 'fill', byte: 0xbb });
    await member.send({ do: 'copy', context: 2, from: { own: true }, to: from });
    await pause(1500);
    const copied = () =>
      readFileSync(trace, 'utf8')
        .split('\n')
        .filter((line) => line.includes('"completion"') && /"context":2\b/.test(line)).length;
    expect(copied()).toBe(0);
    a.pause();
    b.pause();
    await pause(HELD_MS + 1500);
    expect(copied()).toBe(1);
    a.resume();
    b.resume();
    expect(await member.answer()).toEqual({ ok: true });
    expect(await grant.end()).toBe(sumOf(0xbb, BYTES));
    await member.close();

    // The third function's driver is this process.
    const driver = await SdxiDriver.open(new RawBus(new RawClient(server.sockets[2]), { descriptors: true }));
    const context = await driver.createContext();
    const move = async (rkeyA: number, rkeyB: number) => {
      const keys = [context.akeys.allocate({ tgt_sfunc: A, rkey: rkeyA }), context.akeys.allocate({ tgt_sfunc: B, rkey: rkeyB })];
      const batch = context.begin(1);
      batch.copy(BYTES, SHARED, SHARED, 0, keys[0], keys[1]);
      await batch.submit().done;
    };
    const [ofA, ofB] = await Promise.all([Grant.start(a, SHARED, { to: C, fill: 0x11 }), Grant.start(b, SHARED, { to: A, fill: 0x22 })]);
    await expect(move(ofA.rkey, ofB.rkey)).rejects.toMatchObject({ fields: { step: 'FN_RKEY', operand: 1 } });
    expect(await ofB.end()).toBe(sumOf(0x22, BYTES));
    const both = await Grant.start(b, SHARED, { to: C, fill: 0x22 });
    await move(ofA.rkey, both.rkey);
    const [sumA, sumB] = await Promise.all([ofA.end(), both.end()]);
    expect([sumA, sumB]).toEqual([sumOf(0x11, BYTES), sumOf(0x11, BYTES)]);
    await expect(move(ofA.rkey, both.rkey)).rejects.toMatchObject({ fields: { step: 'FN_RKEY', operand: 0 } });
    await driver.close();
  });
});
