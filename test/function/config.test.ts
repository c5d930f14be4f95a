/** The function's configuration: defaults, what it refuses, and what the query of a URI can say. */
import { describe, expect, it } from 'vitest';
import { InlineBus } from '../../src/bus/embedded/inline.js';
import { ArgumentError } from '../../src/errors.js';
import { type FunctionConfig, functionConfig, parseFunctionOptions } from '../../src/function/config.js';
import { Reg } from '../../src/spec/index.js';
import { Rig } from './rig.js';

/** The error that something throws. */
function errorOf(action: () => unknown): ArgumentError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(ArgumentError);
    return error as ArgumentError;
  }
  throw new Error('nothing was thrown');
}

const parse = (query: string) => parseFunctionOptions(new URLSearchParams(query));

describe('functionConfig', () => {
  it('S-104 defaults: sfunc 1, group 0, and the capabilities of ref §13.3', () => {
    expect(functionConfig()).toEqual({
      sfunc: 1,
      groupId: 0,
      csCap: 0,
      dbStride: 0,
      maxRing: 22,
      maxRkey: 8,
      maxBuffer: 11,
      rkeyCap: true,
      maxErrorLog: 5,
      maxAkey: 8,
      maxContext: 63,
      opGroups: 0x18,
      initDelay: 0,
      cache: 'none',
      readIndex: 'late',
      reorder: 'off',
      seed: 0,
      clearValid: 'on',
      errlog: 'pages',
      strictReserved: 'off',
      strictDoorbell: 'off',
      ignoreChain: 'off',
      vendorInfo: 'off',
      pollInvalid: 'off',
      qos: 'off',
      vfs: 0,
    });
    // sfunc apart, these are the published values.
    const rig = new Rig({ sfunc: 0x0801 });
    expect([rig.reg(Reg.CAP0), rig.reg(Reg.CAP1)]).toEqual([0x0000_0008_1600_0801n, 0x0000_0018_003f_855bn]);
  });

  it('S-37 sfunc 0 is never given to a function: it means "local" in a key', () => {
    expect(errorOf(() => functionConfig({ sfunc: 0 }))).toMatchObject({ hint: 'sfunc is a whole number from 1 to 65535' });
    expect(new Rig().reg(Reg.CAP0) & 0xffffn).toBe(1n);
  });

  it.each<[keyof FunctionConfig, number, number]>([
    ['sfunc', 1, 0xffff],
    ['groupId', 0, 0xffff_ffff],
    ['csCap', 0, 3],
    ['dbStride', 0, 7],
    ['maxRing', 0, 31],
    ['maxRkey', 0, 15],
    ['maxBuffer', 0, 15],
    ['maxErrorLog', 0, 15],
    ['maxAkey', 0, 8],
    ['maxContext', 0, 0xffff],
    ['opGroups', 0, 0xffff_ffff],
  ])('ref §2.7, §2.8 %s has the range of its register field: %d to %d', (name, low, high) => {
    for (const value of [low, high]) expect(functionConfig({ [name]: value })[name]).toBe(value);
    for (const value of [low - 1, high + 1, 0.5, Number.NaN, '1', null]) {
      const error = errorOf(() => functionConfig({ [name]: value }));
      expect(error.message).toContain(name);
      expect(error.hint).toContain(`${low} to ${high}`);
    }
  });

  it('options that do not exist are refused with a list of those that do', () => {
    expect(errorOf(() => functionConfig({ maxcontext: 3 } as never)).hint).toContain('maxContext');
    expect(errorOf(() => functionConfig({ toString: 3 } as never)).code).toBe('ERR_SDXI_ARGUMENT');
    expect(errorOf(() => parse('max=3')).message).toContain('"max"');
    expect(errorOf(() => parse('constructor=3')).code).toBe('ERR_SDXI_ARGUMENT');
  });

  it('words and flags: only the listed ones', () => {
    expect(errorOf(() => functionConfig({ errlog: 'page' as never })).hint).toBe('errlog is pages or pagesMinus1');
    expect(errorOf(() => functionConfig({ rkeyCap: 1 as never })).hint).toBe('rkeyCap is true or false');
  });

  it.each<[keyof FunctionConfig, string[]]>([
    ['cache', ['none', 'start', 'sticky']],
    ['readIndex', ['late', 'early']],
    ['reorder', ['off', 'on']],
    ['strictReserved', ['off', 'on']],
    ['pollInvalid', ['off', 'on']],
    ['qos', ['off', 'on']],
  ])('ref §14.3 option %s is one of %j, by URI too, and the first is the default', (name, values) => {
    expect(functionConfig()[name]).toBe(values[0]);
    for (const value of values) expect(functionConfig(parse(`${name}=${value}`))[name]).toBe(value);
    expect(errorOf(() => parse(`${name}=1`)).hint).toContain(values.join(' or '));
  });

  it('undefined is as if it were not there', () => {
    expect(functionConfig({ maxContext: undefined }).maxContext).toBe(63);
  });
});

describe('parseFunctionOptions', () => {
  it('numbers decimal or hexadecimal, flags as 1, 0, true, false, words as they are', () => {
    expect(parse('maxContext=7&opGroups=0x18&rkeyCap=0&clearValid=off')).toEqual({
      maxContext: 7,
      opGroups: 0x18,
      rkeyCap: false,
      clearValid: 'off',
    });
    expect(parse('rkeyCap=true')).toEqual({ rkeyCap: true });
  });

  it.each(['maxContext=', 'maxContext=1e3', 'maxContext=-1', 'maxContext=seven', 'maxContext=70000', 'rkeyCap=yes', 'clearValid=1'])(
    '%s is refused',
    (query) => {
      expect(errorOf(() => parse(query)).hint).toBeTruthy();
    },
  );
});

describe('what the function needs of its bus', () => {
  it.each([0, 1, 63, 0xffff])('O-29 with max_cxt = %d the embedded function has at least 2 interrupt vectors', async (maxContext) => {
    const bus = new InlineBus(`embedded:?inline=1&maxContext=${maxContext}`);
    expect(bus.vectors).toBeGreaterThanOrEqual(2);
    await bus.close();
  });
});
