/** Traces as text: each line, and docs/trace.md, whose examples are lines of a real run. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TRACE_EVENTS, type TraceFields } from '../../src/observe/trace-json.js';
import { assemble, ContextState, DSC_GENERIC, ERRLOG_HD_ENT, FunctionState, REGISTERS, Reg } from '../../src/spec/index.js';
import { recorder, scenario } from './trace-scenario.js';

interface Line {
  seq: number;
  ms: number;
  function: string;
  event: string;
  fields: TraceFields;
  [other: string]: unknown;
}

const parse = (lines: readonly string[]) => lines.map((line) => JSON.parse(line) as Line);

/** The last line without what all lines have. */
function last(lines: readonly string[]): Record<string, unknown> {
  const { seq, ms, function: name, ...rest } = parse(lines.slice(-1))[0];
  expect([seq, name, typeof ms]).toEqual([lines.length, 'sdxi0', 'number']);
  return rest;
}

describe('every line', () => {
  it('is one JSON object without an end of line, with sequence number, time, function and event in front', () => {
    const lines = scenario();
    expect(lines.filter((line) => line.includes('\n'))).toEqual([]);
    for (const [i, line] of parse(lines).entries()) {
      expect(Object.keys(line).slice(0, 4)).toEqual(['seq', 'ms', 'function', 'event']);
      expect(line.seq).toBe(i + 1);
      expect(TRACE_EVENTS).toContain(line.event);
    }
  });

  it('has milliseconds of the given clock, to the microsecond', () => {
    const times = [0, 1.23449, 1.2345678, 86_400_000.0005];
    const { tracer, lines } = recorder({ clock: () => times.shift() ?? 0, name: 'vf 1' });
    for (let i = 0; i < 4; i++) tracer.interrupt(0);
    expect(parse(lines).map(({ ms, function: name }) => [ms, name])).toEqual([
      [0, 'vf 1'],
      [1.234, 'vf 1'],
      [1.235, 'vf 1'],
      [86_400_000.001, 'vf 1'],
    ]);
  });

  it('S-74 comes in the order in which things happen', () => {
    const events = parse(scenario()).filter((line) => line.context === 1 || line.event === 'interrupt' || line.event === 'error-record');
    expect(events.slice(2).map((line) => line.event)).toEqual(
      ['descriptor', 'completion', 'doorbell', 'descriptor', 'completion', 'context-state', 'error-record', 'interrupt'].concat([
        'error-record',
        'interrupt',
      ]),
    );
  });
});

describe('registers', () => {
  it.each(REGISTERS.map(({ name, offset }) => [name, offset] as const))('%s is known by its name, with all its fields', (name, offset) => {
    const { tracer, lines } = recorder();
    tracer.registerRead(offset, 8, 0n);
    const layout = REGISTERS.find((register) => register.name === name)?.layout;
    expect(last(lines)).toMatchObject({
      event: 'register-read',
      register: name,
      offset: `0x${offset.toString(16)}`,
      size: 8,
      value: '0x0',
    });
    expect(Object.keys(parse(lines)[0].fields)).toEqual(Object.keys(layout?.fields ?? {}));
  });

  it('a write, with the names of codes; 64-bit fields and values are strings', () => {
    const { tracer, lines } = recorder();
    tracer.registerWrite(Reg.CTL0, 8, 0x0000_0007_0000_1203n);
    expect(last(lines)).toEqual({
      event: 'register-write',
      register: 'CTL0',
      offset: '0x0',
      size: 8,
      value: '0x700001203',
      fields: { fn_gsr: 'ACTIVE', fn_pasid_vl: 0, fn_err_intr_en: 0, fn_pasid: 0x12, fn_grp_id: 7 },
    });
    tracer.registerWrite(Reg.ERR_WRT, 8, 0xffff_ffff_ffff_fffdn);
    expect(last(lines)).toMatchObject({ value: '0xfffffffffffffffd', fields: { index: '0xfffffffffffffffd' } });
  });

  it('half a register: the fields that lie wholly in it', () => {
    const { tracer, lines } = recorder();
    tracer.registerWrite(Reg.CTL0 + 4, 4, 9n);
    expect(last(lines)).toMatchObject({ register: 'CTL0', offset: '0x4', size: 4, value: '0x9', fields: { fn_grp_id: 9 } });
    expect(Object.keys(parse(lines)[0].fields)).toEqual(['fn_grp_id']);
    tracer.registerWrite(Reg.ERR_CFG, 4, 0x5003n);
    expect(last(lines)).toMatchObject({ register: 'ERR_CFG', value: '0x5003', fields: { en: 1, sz: 1 } });
    expect(Object.keys(parse(lines)[1].fields)).toEqual(['en', 'sz']);
    tracer.registerRead(Reg.CAP1 + 2, 1, 0x3fn);
    expect(parse(lines)[2].fields).toEqual({});
  });

  it('bits of no field that are set are shown', () => {
    const { tracer, lines } = recorder();
    tracer.registerWrite(Reg.ERR_CTL, 8, 0x8001n);
    expect(last(lines)).toMatchObject({ fields: { intr_en: 1, reserved: '0080000000000000' } });
  });

  it('an offset without a register, and an access that no bus would carry', () => {
    const { tracer, lines } = recorder();
    for (const offset of [0x30000, -4, 0.5]) {
      tracer.registerRead(offset, 8, 1n);
      const line = last(lines);
      expect([line.register, 'fields' in line, line.value]).toEqual([null, false, '0x1']);
    }
  });
});

describe('descriptors, records and states', () => {
  it('an operation by its name; sizes in bytes', () => {
    const { tracer, lines } = recorder();
    const bytes = assemble('descriptor', { operation: 'COPY', vl: 1, size: 2 ** 32, addr0: 2n ** 63n, addr1: 4096 });
    tracer.descriptor(3, 2 ** 40, bytes);
    expect(last(lines)).toMatchObject({
      event: 'descriptor',
      context: 3,
      index: '0x10000000000',
      operation: 'COPY',
      fields: { vl: 1, size: 2 ** 32, addr0: '0x8000000000000000', addr1: '0x1000' },
    });
  });

  it('an operation that does not exist: null, type and subtype, and the body as bytes', () => {
    const { tracer, lines } = recorder();
    tracer.descriptor(1, 0, DSC_GENERIC.encode({ vl: 1, type: 0x7aa, subtype: 9, body: Uint8Array.of(1, 2) }));
    const { fields } = parse(lines)[0];
    expect([last(lines).operation, fields.type, fields.subtype, String(fields.body).slice(0, 6)]).toEqual([null, 0x7aa, 9, '010200']);
  });

  it('the bytes of a descriptor are read at once: what happens to them later is not seen', () => {
    const { tracer, lines } = recorder();
    const bytes = assemble('descriptor', { operation: 'NOP', vl: 1 });
    tracer.descriptor(1, 0, bytes);
    bytes.fill(0xff);
    expect(last(lines).operation).toBe('NOP');
  });

  it('a record of the error log, with the names of step, sub-step and reaction', () => {
    const { tracer, lines } = recorder();
    tracer.errorRecord(ERRLOG_HD_ENT.encode({ vl: 1, step: 12, sub_step: 3, re: 2, type: 0x7f7, dsc_index: 5n }));
    expect(last(lines)).toMatchObject({
      event: 'error-record',
      fields: { step: 'FN_RKEY', sub_step: 'DVF', re: 'FUNCTION_STOPPED', dsc_index: '0x5' },
    });
  });

  it('states by their names; values without one in hexadecimal', () => {
    const { tracer, lines } = recorder();
    for (const [name, state] of Object.entries(FunctionState)) {
      tracer.functionState(state);
      expect(last(lines)).toEqual({ event: 'function-state', state: name });
    }
    for (const [name, state] of Object.entries(ContextState)) {
      tracer.contextState(4, state);
      expect(last(lines)).toEqual({ event: 'context-state', context: 4, state: name });
    }
    tracer.contextState(4, 9);
    expect(last(lines)).toEqual({ event: 'context-state', context: 4, state: '0x9' });
  });

  it('doorbells, completions, interrupts', () => {
    const { tracer, lines } = recorder();
    tracer.doorbell(7, 2 ** 60);
    expect(last(lines)).toEqual({ event: 'doorbell', context: 7, value: '0x1000000000000000' });
    tracer.completion(7, 41, true);
    expect(last(lines)).toEqual({ event: 'completion', context: 7, index: '0x29', error: true });
    tracer.interrupt(3);
    expect(last(lines)).toEqual({ event: 'interrupt', vector: 3 });
  });

  it('what a server adds: maps, unmaps, function-level reset', () => {
    const { tracer, lines } = recorder();
    tracer.map(0x1000, 0x20_0000_0000, 1);
    expect(last(lines)).toEqual({ event: 'map', address: '0x1000', bytes: '0x2000000000', access: 'read' });
    tracer.map(2n ** 63n, 4096n, 2);
    expect(last(lines)).toEqual({ event: 'map', address: '0x8000000000000000', bytes: '0x1000', access: 'write' });
    tracer.map(0, 1, 3);
    expect(last(lines)).toMatchObject({ access: 'read-write' });
    tracer.unmap(0x1000, 4096);
    expect(last(lines)).toEqual({ event: 'unmap', address: '0x1000', bytes: '0x1000' });
    tracer.flr();
    expect(last(lines)).toEqual({ event: 'flr' });
  });

  it('whatever a driver does, each event is one line that JSON reads, and none throws', () => {
    const { tracer, lines } = recorder();
    const offset = fc.oneof(fc.integer({ min: -16, max: 0x90000 }), fc.constantFrom(...Object.values(Reg)), fc.double());
    fc.assert(
      fc.property(offset, fc.integer({ min: 1, max: 8 }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (at, size, value) => {
        tracer.registerWrite(at, size, value);
        tracer.registerRead(at, size, value);
        tracer.doorbell(at, Number(value));
        return parse(lines.slice(-3)).every((line) => typeof line.value === 'string');
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 64, maxLength: 64 }), (bytes) => {
        const before = Uint8Array.from(bytes);
        tracer.descriptor(1, 1, bytes);
        tracer.errorRecord(bytes);
        expect(bytes).toEqual(before);
        return parse(lines.slice(-2)).every((line) => typeof line.fields === 'object');
      }),
    );
  });

  it('a descriptor in a trace can be assembled again', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 64, maxLength: 64 }), (bytes) => {
        const { tracer, lines } = recorder();
        tracer.descriptor(1, 1, bytes);
        expect(Buffer.compare(assemble('descriptor', parse(lines)[0].fields), bytes)).toBe(0);
      }),
    );
  });
});

describe('docs/trace.md', () => {
  const page = readFileSync(new URL('../../docs/trace.md', import.meta.url), 'utf8');
  const examples = [...page.matchAll(/```json\n([\s\S]*?)```/g)].flatMap(([, block]) => block.trim().split('\n'));

  it('has a section for each event, in order', () => {
    expect([...page.matchAll(/^### (.*)$/gm)].flatMap(([, title]) => [...title.matchAll(/`(.*?)`/g)].map(([, event]) => event))).toEqual([
      ...TRACE_EVENTS,
    ]);
  });

  it('shows every event, in lines that a run has printed', () => {
    const lines = scenario();
    expect(examples.filter((example) => !lines.includes(example))).toEqual([]);
    expect(new Set(parse(examples).map((line) => line.event))).toEqual(new Set(TRACE_EVENTS));
  });
});
