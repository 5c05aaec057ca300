-- wrk: every request with a path, a query and an x-request-id of its own, under a browser's fields.
-- realistic.py says the same for HTTP/2.
local fields = table.concat({
  "Host: localhost",
  "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
  "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
  "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
  "Accept-Encoding: gzip, deflate, br, zstd",
  "Referer: https://shop.example/horns?sort=price",
  "Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9mLWEtdG9rZW4tbm9ib2R5LWNoZWNrcw",
  "Cookie: session=6f1d2c3b4a59687786950a1b2c3d4e5f; theme=dark; consent=1",
}, "\r\n")
local number = 0

function request()
  number = number + 1
  return string.format(
    "GET /shop/horns/%d-%x?page=%d&ref=%x HTTP/1.1\r\n%s\r\nX-Request-Id: %08x-%08x\r\n\r\n",
    number, number * 40503 % 1048576, number % 97, number * 69069 % 4294967296,
    fields, number * 1103515245 % 4294967296, number)
end
