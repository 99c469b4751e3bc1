// An API client in Node, written from the vendor's page without this package's code. It reads a JSON list of calls from
// standard input, each as [path, fields, names of the signed fields], and prints a JSON list of the replies' bodies.
'use strict'
const crypto = require('crypto')
const fs = require('fs')

const { WITNESS_APPKEY: appkey, WITNESS_APPSECRET: appsecret, WITNESS_BASE_URL: baseUrl } = process.env
const md5 = (text) => crypto.createHash('md5').update(text, 'utf8').digest('hex')

async function call (path, fields, signed) {
  const sign = md5(md5(appkey + signed.map((name) => fields[name]).join('')) + appsecret)
  const form = new URLSearchParams({ ...fields, appkey, sign })
  const reply = path === 'order/check' // the only endpoint that is a GET
    ? await fetch(`${baseUrl + path}?${form}`)
    : await fetch(baseUrl + path, { method: 'POST', body: form })
  return await reply.text()
}

async function main () {
  const bodies = []
  for (const [path, fields, signed] of JSON.parse(fs.readFileSync(0, 'utf8'))) {
    bodies.push(await call(path, fields, signed))
  }
  console.log(JSON.stringify(bodies))
}

main()
