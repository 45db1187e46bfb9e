"""The same short text in the languages of docs/languages.md, to count what becomes of its words."""

TEXTS = {
    "English": "Yesterday I went to the market with my friend. The weather is very nice today. We "
    "bought fresh bread, milk and apples. Where is the old library? She reads a good book every "
    "evening.",
    "German": "Gestern ging ich mit meiner Freundin auf den Markt. Das Wetter ist heute sehr schön. "
    "Wir kauften frisches Brot, Milch und Äpfel. Wo ist die alte Bücherei? Sie liest jeden Abend ein "
    "gutes Buch.",
    "French": "Hier, je suis allé au marché avec mon amie. Il fait très beau aujourd'hui. Nous avons "
    "acheté du pain frais, du lait et des pommes. Où est la vieille bibliothèque ? Elle lit un bon "
    "livre chaque soir.",
    "Vietnamese": "Hôm qua tôi đi chợ với bạn tôi. Hôm nay thời tiết rất đẹp. Chúng tôi đã mua bánh "
    "mì, sữa và táo. Thư viện cũ ở đâu? Mỗi tối cô ấy đọc một cuốn sách hay.",
    "Turkish": "Dün arkadaşımla çarşıya gittim. Bugün hava çok güzel. Taze ekmek, süt ve elma aldık. "
    "Eski kütüphane nerede? O her akşam iyi bir kitap okuyor.",
    "Russian": "Вчера я ходил на рынок со своей подругой. Сегодня очень хорошая погода. Мы купили "
    "свежий хлеб, молоко и яблоки. Где старый музей? Каждый вечер она читает хорошую книгу.",
    "Arabic": "ذهبت أمس إلى السوق مع صديقتي. الطقس جميل جدا اليوم. اشترينا خبزا طازجا وحليبا وتفاحا. "
    "أين المكتبة القديمة؟ هي تقرأ كتابا جيدا كل مساء.",
    "Hindi": "कल मैं अपनी सहेली के साथ बाज़ार गया था। आज मौसम बहुत अच्छा है। हमने ताज़ी रोटी, दूध और सेब ख़रीदे। "
    "पुराना पुस्तकालय कहाँ है? वह हर शाम एक अच्छी किताब पढ़ती है।",
    "Thai": "เมื่อวานฉันไปตลาดกับเพื่อน วันนี้อากาศดีมาก เราซื้อขนมปัง นม และแอปเปิล ห้องสมุดเก่าอยู่ที่ไหน "
    "เธออ่านหนังสือดีๆ ทุกเย็น",
    "Khmer": "ម្សិលមិញខ្ញុំបានទៅផ្សារជាមួយមិត្តរបស់ខ្ញុំ។ ថ្ងៃនេះអាកាសធាតុល្អណាស់។ យើងបានទិញនំប៉័ង ទឹកដោះគោ និងផ្លែប៉ោម។",
    "Chinese": "昨天我和朋友去了市场。今天天气很好。我们买了新鲜的面包、牛奶和苹果。旧图书馆在哪里？她每天晚上读一本好书。",
    "Japanese": "きのう友だちと市場へ行きました。今日は天気がとてもいいです。新しいパンと牛乳とりんごを買いました。"
    "古い図書館はどこですか。彼女は毎晩よい本を読みます。",
    "Korean": "어제 친구와 함께 시장에 갔어요. 오늘은 날씨가 아주 좋아요. 우리는 신선한 빵과 우유와 사과를 샀어요. "
    "오래된 도서관은 어디에 있어요? 그녀는 매일 저녁 좋은 책을 읽어요.",
}
