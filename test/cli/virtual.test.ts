/** Virtual functions on the command line: listed with their physical one, or opened alone. */
import { expect, it } from 'vitest';
import { here, hereJson } from './run.js';

interface InfoJson {
  name: string;
  uri: string;
  vf: boolean;
  state: string;
}

it('sdxi info shows a physical function and its virtual ones', async () => {
  const { code, json } = await hereJson<InfoJson[]>(['info', 'embedded:?inline=1&vfs=4']);
  const [{ name }] = json;
  expect(code).toBe(0);
  expect(json.map((one) => [one.name, one.vf, one.state])).toEqual(
    ['', '/vf1', '/vf2', '/vf3', '/vf4'].map((end) => [`${name}${end}`, end !== '', 'ACTIVE']),
  );
  expect(json[4].uri).toBe('embedded:?inline=1&vfs=4#vf4');
});

it('a URI with a fragment is one virtual function', async () => {
  const { code, stdout } = await here(['info', 'embedded:?inline=1&vfs=4#vf2']);
  expect([code, stdout.includes('#vf2'), /vf +true/.test(stdout)]).toEqual([0, true, true]);
});
