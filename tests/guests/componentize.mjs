// node componentize.mjs IN.js OUT.wasm   makes a component of JavaScript. What it exports is said in its first line: // exports NAME
// It has to lie beside node_modules. The WIT is jco's, called by the version for which the JavaScript engine inside is built.
import { mkdtemp, readdir, readFile, rm, writeFile, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';

const [, , source, out] = process.argv;
const exported = (await readFile(source, 'utf8')).split('\n')[0].replace('// exports ', '');
const wit = await mkdtemp(join(tmpdir(), 'wit-'));
try {
  const from = fileURLToPath(new URL('node_modules/@bytecodealliance/jco/lib/wit/builtin/0.2.12', import.meta.url));
  for (const name of await readdir(from)) {
    await mkdir(join(wit, 'deps', name), { recursive: true });
    const text = await readFile(join(from, name, 'package.wit'), 'utf8');
    await writeFile(join(wit, 'deps', name, 'package.wit'), text.replaceAll('@0.2.12', '@0.2.10'));
  }
  await writeFile(join(wit, 'world.wit'), `package test:guest;\nworld guest { import wasi:cli/environment@0.2.10; export ${exported}@0.2.10; }\n`);
  const { component } = await componentize({ sourcePath: source, witPath: wit });
  await writeFile(out, component);
} finally {
  await rm(wit, { recursive: true });
}
