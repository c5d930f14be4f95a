import { describe, expect, it } from 'vitest';
import { type FailureJson, here, hereJson, sdxi } from './run.js';

const ESCAPE = '\u001b';

const COMMANDS = ['demo', 'copy', 'test', 'conform', 'serve', 'grant', 'vm', 'fault', 'list', 'info', 'decode', 'bench'];

describe('sdxi: usage', () => {
  it('help names every command and the exit codes, on stdout, exit 0', async () => {
    const { code, stdout, stderr } = await sdxi(['--help']);
    expect([code, stderr]).toEqual([0, '']);
    for (const text of [...COMMANDS, 'Exit status', 'NO_COLOR']) expect(stdout).toContain(text);
  });

  it.each(COMMANDS)('%s --help shows its options, --json among them', async (command) => {
    const { code, stdout } = await here([command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain(`Usage: sdxi ${command}`);
    expect(stdout).toContain('--json');
  });

  it('without a command it prints the help to stderr, exit 2', async () => {
    const { code, stdout, stderr } = await here([]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('Usage: sdxi');
  });

  it('--version prints the version of package.json', async () => {
    const { code, stdout } = await sdxi(['--version']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it.each([
    ['an unknown command', ['lst'], "unknown command 'lst'", 'did you mean list'],
    ['an unknown option', ['test', '--iteration', '5'], "unknown option '--iteration'", 'did you mean --iterations'],
    ['a missing argument', ['copy', '/etc/hostname'], "missing required argument 'destination'", 'sdxi copy --help'],
    ['too many arguments', ['list', 'all'], 'too many arguments', 'sdxi list --help'],
    ['a size that is none', ['copy', 'a', 'b', '--block', '12q'], "argument '12q' is invalid", '64, 4k, 1m, 4g'],
    ['a number that is none', ['test', '--threads', 'many'], "argument 'many' is invalid", 'from 1 to'],
    ['bytes for the exponent of --alignment', ['test', '--alignment', '64'], "argument '64' is invalid", '6 aligns to 64 bytes'],
    ['an alignment that fits no transfer', ['test', '--alignment', '15'], 'buffer too small', 'exponent'],
    ['a corruption of nothing', ['demo', '--corrupt', 'all'], "argument 'all' is invalid", 'data, guard'],
    ['a file that is not there', ['demo', '--file', '/nonexistent'], 'cannot read /nonexistent', 'exists'],
    ['a file to decode that is not there', ['decode', '--file', '/nonexistent'], 'cannot read /nonexistent', 'exists'],
    ['a directory to decode', ['decode', '--file', '/'], '/ is a directory', 'file'],
    ['a step that the demo does not have', ['demo', '--only', 'file,all'], "argument 'file,all' is invalid", 'function, dmatest, file'],
    ['a corruption that nobody looks for', ['test', '--corrupt', 'data', '--noverify'], '--noverify', 'give one'],
    ['a socket that is not there', ['vm', '--socket', '/nonexistent', '--run', 'true'], 'no socket at /nonexistent', 'sdxi serve'],
    ['a file instead of a socket', ['vm', '--socket', '/etc/hostname', '--run', 'true'], 'no socket at /etc/hostname', 'something else'],
    ['a trace to nowhere', ['serve', '--socket', '/nonexistent/s', '--trace', '-'], '--trace takes a file', '/dev/stdout'],
    ['an option twice', ['serve', '--socket', '/nonexistent/s', '--option', 'qos=on', '--option', 'qos=off'], 'qos', 'once'],
    [
      'an option by both its names',
      ['serve', '--socket', '/nonexistent/s', '--max-cxt', '5', '--option', 'maxContext=3'],
      '--max-cxt and --option maxContext',
      'one of them',
    ],
    ['a PCI id that is none', ['serve', '--socket', '/nonexistent/s', '--vendor-id', 'zz'], '--vendor-id', '0xffff'],
    ['a file for no place in the guest', ['vm', '--no-function', '--run', 'true', '--file', '/etc/hostname'], 'no place', 'HOST:'],
    ['a URI of no bus', ['info', 'nonsense'], 'nonsense', 'embedded'],
    ['an unknown option of a function', ['info', 'embedded:?colour=1'], 'colour', 'maxContext'],
    ['sizes that fit no span', ['bench', '--sizes', '2m', '--span', '1m'], 'nothing to measure', '--span'],
  ])('%s: exit 2, cause and hint on stderr, the same as JSON on stdout', async (_what, args, message, hint) => {
    const { code, stderr, json } = await hereJson<FailureJson>(args);
    expect(code).toBe(2);
    expect(json).toEqual({ ok: false, error: expect.objectContaining({ code: expect.stringMatching(/^ERR_SDXI_/) }) });
    expect(`${json.error.message} ${json.error.hint}`).toContain(message);
    expect(`${json.error.message} ${json.error.hint}`).toContain(hint);
    expect(stderr).toContain(message);
  });

  it('a bus that this version does not have is a failure, exit 1', async () => {
    const { code, json } = await hereJson<FailureJson>(['info', 'chardev:/dev/sdxi0']);
    expect([code, json.error.code]).toEqual([1, 'ERR_SDXI_UNSUPPORTED']);
    expect(json.error.hint).toContain('embedded:');
  });

  it('without --json nothing of an error is on stdout', async () => {
    const { code, stdout, stderr } = await here(['info', 'nonsense']);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('sdxi info:');
    expect(stderr).toContain('hint:');
  });

  it('colours: none in a pipe, none with NO_COLOR, some with FORCE_COLOR', async () => {
    const piped = await sdxi(['info', 'nonsense']);
    expect(piped.stderr).not.toContain(ESCAPE);
    const forced = await sdxi(['info', 'nonsense'], { env: { FORCE_COLOR: '1' } });
    expect(forced.stderr).toContain(ESCAPE);
    const both = await sdxi(['info', 'nonsense'], { env: { FORCE_COLOR: '1', NO_COLOR: '1' } });
    expect(both.stderr).not.toContain(ESCAPE);
  });
});

describe('sdxi list and info', () => {
  it('list: every entry has a uri and a description', async () => {
    const { code, json } = await hereJson<{ uri: string; description: string }[]>(['list']);
    expect(code).toBe(0);
    expect(json.map(({ uri }) => uri)).toContain('embedded:');
    for (const entry of json) expect(entry).toEqual({ uri: expect.any(String), description: expect.any(String) });
    expect((await here(['list'])).stdout).toContain('embedded:');
  });

  it('info: a tree of sdxi0 with its limits, and sdxi0/cxt0 and sdxi0/cxt1 running', async () => {
    const { code, json } = await hereJson<Record<string, unknown>[]>(['info', 'embedded:?maxContext=7&maxBuffer=3']);
    expect(code).toBe(0);
    expect(json).toEqual([
      expect.objectContaining({ name: 'sdxi0', uri: 'embedded:?maxContext=7&maxBuffer=3', state: 'ACTIVE', version: '1.0', maxContext: 7 }),
    ]);
    expect(json[0]).toMatchObject({
      maxBufferBytes: 2 ** 24,
      contexts: [
        { name: 'sdxi0/cxt0', state: 'RUN' },
        { name: 'sdxi0/cxt1', state: 'RUN', ringEntries: 4096 },
      ],
    });
    expect((await here(['info'])).stdout).toMatch(/sdxi0 {2}ACTIVE[\s\S]*sdxi0\/cxt1 {2}RUN/);
  });
});
