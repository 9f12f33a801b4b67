// exports wasi:http/incoming-handler
import { getArguments, getEnvironment } from 'wasi:cli/environment@0.2.10';

let answered = 0; // by this instance

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname, searchParams } = new URL(request.url);
  answered++;
  switch (pathname) {
    case '/':
      return new Response('hello\n');
    case '/answered':
      return new Response(`${answered}\n`);
    case '/environment':
      return new Response(JSON.stringify({ arguments: getArguments(), environment: Object.fromEntries(getEnvironment()) }));
    case '/log':
      console.log('a line of output');
      console.error('a line of errors');
      return new Response('logged\n');
    case '/echo':
      return new Response(request.body);
    case '/endless':
      return new Response(new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(1 << 16)) }));
    case '/slow':
      await new Promise((resolve) => setTimeout(resolve, Number(searchParams.get('ms'))));
      return new Response('late\n');
    case '/eat': {
      const all = [];
      for (;;) all.push(new Uint8Array(1 << 20).fill(1));
    }
    case '/fetch': {
      const answer = await fetch(searchParams.get('url'));
      return new Response(`${answer.status} ${await answer.text()}`);
    }
    default:
      return new Response('not here\n', { status: 404 });
  }
}
